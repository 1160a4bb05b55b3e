// Keeps the page live: the server renders it every second and sends the sections that
// have changed. Each one is morphed into its element, so that focus, scroll position,
// open details and selected text are kept. Without this script the page reloads itself.
"use strict";

const root = document.documentElement;
const bar = document.getElementById("live");
const form = document.getElementById("filter");
const silence = 5000; // milliseconds without an event, after which the page counts as out of date
const rest = 15000; // milliseconds between two events for a hidden tab

let source = null;
let heard = Date.now(); // when the last event came, the page was loaded, or a rest ended
let opened = 0;
let resting = false;
let clock = document.getElementById("clock")?.textContent;

// morph makes the element from equal to the element to, and changes only what differs.
function morph(from, to) {
  if (from.nodeName !== to.nodeName) {
    from.replaceWith(to);
    return;
  }
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.data !== to.data) from.data = to.data;
    return;
  }
  for (const { name } of [...from.attributes]) {
    if (!to.hasAttribute(name) && !(name === "open" && from.nodeName === "DETAILS")) from.removeAttribute(name);
  }
  for (const { name, value } of to.attributes) {
    if (from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  let at = from.firstChild;
  for (const want of [...to.childNodes]) {
    if (at && (want.id || "") === (at.id || "")) {
      const next = at.nextSibling;
      morph(at, want);
      at = next;
      continue;
    }
    const known = want.id && [...from.children].find((child) => child.id === want.id); // a row moves, and does not become another row
    from.insertBefore(known || want, at);
    if (known) morph(known, want);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

function show(event) {
  const page = JSON.parse(event.data);
  if (page.page !== root.dataset.page) return reload();
  for (const [id, html] of Object.entries(page.sections)) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const now = document.getElementById(id);
    if (!now) return reload();
    morph(now, template.content.firstElementChild);
  }
  heard = Date.now();
  clock = page.clock;
  root.dataset.level = page.level;
  label(`${page.level}: ${page.title} · patroniglue`, page.level);
  live(true);
  if (document.hidden) { // browsers open at most six connections to a server: with six open tabs, a seventh could load nothing
    resting = true;
    source.close();
  }
}

function wake() {
  resting = false;
  heard = Date.now();
  connect();
}

// reload loads the page again, because another build answers or the nodes are others. It
// does so at most every ten seconds, in case two builds answer in turn.
function reload() {
  const last = Number(sessionStorage.getItem("reloaded"));
  if (Date.now() - last < 10000) return live(false);
  sessionStorage.setItem("reloaded", Date.now());
  location.reload();
}

// label sets the title and the icon, for people who see only the tab.
function label(title, level) {
  if (document.title !== title) document.title = title;
  const icon = document.querySelector("link[rel=icon]");
  const href = icon.getAttribute("href").replace(/\w+\.svg/, level + ".svg");
  if (icon.getAttribute("href") !== href) icon.setAttribute("href", href);
}

function live(yes) {
  root.dataset.live = yes ? "yes" : "no";
  if (!yes) label("not live · patroniglue", "critical");
  bar.hidden = yes;
  const text = yes ? "" : `Not live since ${clock} UTC: this page is out of date. Trying to reach patroniglue again …`;
  if (bar.textContent !== text) bar.textContent = text;
}

function connect() {
  source?.close();
  opened = Date.now();
  source = new EventSource(root.dataset.stream + (form ? search() : ""));
  source.addEventListener("page", show);
}

function search() {
  const filled = [...new FormData(form)].filter(([, value]) => value !== "");
  // With a filter, even an empty one, / is the overview also where there is one cluster.
  return filled.length || location.search ? "?" + new URLSearchParams(filled.length ? filled : [["q", ""]]) : "";
}

// An EventSource reconnects by itself only after seconds, never after an answer such as
// 502, and it does not notice when a connection hangs.
setInterval(() => {
  const now = Date.now();
  if (resting) {
    if (now - opened > rest) wake();
    return;
  }
  const broken = source.readyState !== EventSource.OPEN;
  if (now - heard > (broken ? 1500 : silence)) live(false);
  if (now - opened > 1000 && (broken || now - Math.max(heard, opened) > silence)) connect();
}, 500);

document.addEventListener("visibilitychange", () => {
  if (resting && !document.hidden) wake();
});

if (form) {
  let typed;
  form.addEventListener("input", () => {
    clearTimeout(typed);
    typed = setTimeout(() => {
      const query = search();
      history.replaceState(null, "", query || location.pathname);
      connect();
    }, 150);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
}

connect();
