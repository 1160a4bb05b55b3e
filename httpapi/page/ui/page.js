// Keeps the page live: the server renders it again every second and sends the
// sections that changed; each is morphed into its element, so that focus, scroll
// position, open details and selected text stay. Without this script the page
// reloads itself.
"use strict";

const root = document.documentElement;
const bar = document.getElementById("live");
const form = document.getElementById("filter");
const silence = 5000; // milliseconds without an event: what is shown is old
const rest = 15000; // milliseconds between two events for a tab that nobody looks at

let source = null;
let heard = Date.now(); // the last event, or the page itself, or when a rest was over
let opened = 0;
let resting = false;
let clock = document.getElementById("clock")?.textContent;

// morph makes element from look like to, and leaves alone what is equal already.
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
    const known = want.id && [...from.children].find((child) => child.id === want.id); // rows move, they do not become others
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
  if (page.page !== root.dataset.page) return again();
  for (const [id, html] of Object.entries(page.sections)) {
    const template = document.createElement("template");
    template.innerHTML = html;
    const now = document.getElementById(id);
    if (!now) return again();
    morph(now, template.content.firstElementChild);
  }
  heard = Date.now();
  clock = page.clock;
  root.dataset.level = page.level;
  label(`${page.level}: ${page.title} · patroniglue`, page.level);
  live(true);
  if (document.hidden) { // all tabs together have six connections to a server: the seventh would load nothing
    resting = true;
    source.close();
  }
}

function wake() {
  resting = false;
  heard = Date.now();
  connect();
}

// again loads the page anew: another build answers, or other nodes are watched.
// Not in a circle, should two builds answer in turn.
function again() {
  const last = Number(sessionStorage.getItem("reloaded"));
  if (Date.now() - last < 10000) return live(false);
  sessionStorage.setItem("reloaded", Date.now());
  location.reload();
}

// label is for those who see the tab alone.
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
  const text = yes ? "" : `Not live since ${clock} UTC: what you see is old. Trying to reach patroniglue again …`;
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
  // A page that was asked for with a filter is the overview, with one cluster too.
  return filled.length || location.search ? "?" + new URLSearchParams(filled.length ? filled : [["q", ""]]) : "";
}

// By itself a source comes back after seconds, after an answer such as 502 never,
// and it does not notice a connection that hangs.
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
