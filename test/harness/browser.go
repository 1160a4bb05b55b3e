package harness

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// Browser is a headless Chromium that can reach nothing but this machine.
type Browser struct {
	ctx context.Context
	axe string // axe-core's source
}

func StartBrowser(t *testing.T) *Browser {
	t.Helper()
	axe, err := os.ReadFile("testdata/axe/node_modules/axe-core/axe.min.js")
	switch {
	case err == nil:
	case errors.Is(err, fs.ErrNotExist) && os.Getenv("PATRONIGLUE_LAB") != "required":
		t.Skip("NOT TESTED: want axe-core: npm ci --prefix testdata/axe")
	default:
		t.Fatalf("axe-core is not there, ./build.sh test has npm fetch it: %v", err)
	}
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]),
		chromedp.ExecPath(RequireProgram(t, "chromium")),
		chromedp.IgnoreCertErrors, // of tests' authorities
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-gpu", true),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"), // for all that it would ask by itself
	)
	if os.Geteuid() == 0 {
		options = append(options, chromedp.NoSandbox) // its sandbox refuses to be root's
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end := chromedp.NewContext(allocator)
	t.Cleanup(end)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("starting the browser: %v", err)
	}
	return &Browser{ctx: ctx, axe: string(axe)}
}

// Tab is one page in it. When its test ends there was nothing on its console,
// it asked nobody but the server that it was opened on, and whatever document
// came had a strict policy.
type Tab struct {
	Ctx context.Context
	axe string

	mu      sync.Mutex
	host    string   // guarded by mu
	allowed []string // guarded by mu; what may stand in the network's complaints
	wrong   []string // guarded by mu
}

func (b *Browser) Open(t *testing.T, url string) *Tab {
	t.Helper()
	p := b.Blank(t)
	p.Navigate(t, url)
	return p
}

// Blank has no page yet. It is in a window of its own, unless told otherwise.
func (b *Browser) Blank(t *testing.T, options ...chromedp.ContextOption) *Tab {
	t.Helper()
	p := &Tab{axe: b.axe}
	ctx, end := chromedp.NewContext(b.ctx, append(options, chromedp.WithListener(p.hear))...)
	p.Ctx = ctx
	t.Cleanup(func() {
		if t.Failed() {
			if text, err := tryToEvaluate[string](p, "document.body?.innerText ?? ''"); err == nil {
				t.Logf("the page at the end:\n%s", text)
			}
		}
		end()
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, w := range p.wrong {
			t.Error(w)
		}
	})
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("opening a tab: %v", err)
	}
	return p
}

func (p *Tab) Navigate(t *testing.T, to string) {
	t.Helper()
	u, err := url.Parse(to)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	p.host = u.Host
	p.mu.Unlock()
	p.Do(t, chromedp.Navigate(to))
}

// hear takes the browser's events in their order.
func (p *Tab) hear(event any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	add := func(format string, args ...any) {
		if w := fmt.Sprintf(format, args...); !slices.Contains(p.wrong, w) {
			p.wrong = append(p.wrong, w)
		}
	}
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		details, _ := json.Marshal(e.ExceptionDetails)
		add("exception: %s", details)
	case *runtime.EventConsoleAPICalled:
		args, _ := json.Marshal(e.Args)
		add("console.%s: %s", e.Type, args)
	case *log.EventEntryAdded:
		allowed := func(s string) bool { return strings.Contains(e.Entry.Text, s) }
		if e.Entry.Source == log.EntrySourceNetwork && slices.ContainsFunc(p.allowed, allowed) {
			return
		}
		add("the browser logs: %s: %s: %s (%s)", e.Entry.Level, e.Entry.Source, e.Entry.Text, e.Entry.URL)
	case *network.EventRequestWillBeSent:
		u, err := url.Parse(e.Request.URL)
		if err != nil || u.Host != p.host || u.Scheme != "http" && u.Scheme != "https" {
			add("request to elsewhere: %s %s (%v)", e.Type, e.Request.URL, err)
		}
	case *network.EventResponseReceived:
		if e.Type != network.ResourceTypeDocument {
			return
		}
		policy := ""
		for name, value := range e.Response.Headers {
			if strings.EqualFold(name, "Content-Security-Policy") {
				policy = fmt.Sprint(value)
			}
		}
		if !strings.HasPrefix(policy, "default-src 'none';") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") || strings.Contains(policy, ":") {
			add("%s: Content-Security-Policy %q, want default-src 'none' and nothing but 'self' besides", e.Response.URL, policy)
		}
	}
}

// Allow takes complaints of the network for what is expected from now on.
func (p *Tab) Allow(texts ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.allowed = texts
}

// Do fails the test after a time that is long for everything.
func (p *Tab) Do(t *testing.T, steps ...chromedp.Action[chromedp.Void]) {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.Ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		t.Fatal(err)
	}
}

// Call sends one of the browser's own commands.
func Call[P, R any](t *testing.T, p *Tab, command cdp.Command[P, R], params P) R {
	t.Helper()
	ctx, cancel := context.WithTimeout(p.Ctx, 30*time.Second)
	defer cancel()
	result, err := chromedp.Call(ctx, command, params)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

func tryToEvaluate[T any](p *Tab, expression string) (T, error) {
	ctx, cancel := context.WithTimeout(p.Ctx, 30*time.Second)
	defer cancel()
	return chromedp.Run(ctx, chromedp.Evaluate[T](expression))
}

func Evaluate[T any](t *testing.T, p *Tab, expression string) T {
	t.Helper()
	v, err := tryToEvaluate[T](p, expression)
	if err != nil {
		t.Fatalf("%s: %v", expression, err)
	}
	return v
}

// Await waits for an expression to be true. A page that is being loaded answers
// nothing, or for the one before.
func (p *Tab) Await(t *testing.T, expression string) {
	t.Helper()
	Eventually(t, Soon, func() error {
		ok, err := tryToEvaluate[bool](p, expression)
		if err != nil {
			return fmt.Errorf("%s: %w", expression, err)
		}
		return Want(ok, "%s", expression)
	})
}

// Says waits for a text in what the selector finds, however it is broken into lines.
func (p *Tab) Says(t *testing.T, selector, text string) {
	t.Helper()
	p.Await(t, fmt.Sprintf("document.querySelector(%q).textContent.replace(/\\s+/g, ' ').includes(%q)", selector, text))
}

// IsLive waits until the page's script has heard of the server.
func (p *Tab) IsLive(t *testing.T) {
	t.Helper()
	p.Await(t, "document.documentElement.dataset.live === 'yes'")
}

// Occupy does what somebody does who reads: scrolls down, opens the details of a
// node, has the focus there and some text selected.
func (p *Tab) Occupy(t *testing.T) {
	t.Helper()
	p.As(t, NarrowLight)
	Evaluate[chromedp.Void](t, p, `{
		const node = document.querySelector("tbody[data-node=pg2]"), summary = node.querySelector("summary")
		window.mark = { node, summary, url: location.href }
		summary.parentElement.open = true
		summary.focus()
		getSelection().selectAllChildren(node.querySelector("dt"))
		summary.scrollIntoView()
		mark.at = scrollY
	}`)
}

// IsUndisturbed: nothing of that was lost.
func (p *Tab) IsUndisturbed(t *testing.T) {
	t.Helper()
	for _, expression := range []string{
		"window.mark !== undefined", // the page was not loaded again
		"mark.url === location.href",
		"mark.at > 0 && Math.abs(scrollY - mark.at) < innerHeight",
		"mark.node === document.querySelector('tbody[data-node=pg2]')",
		"mark.summary.parentElement.open",
		"mark.summary === document.activeElement",
		"getSelection().toString() !== ''",
	} {
		if !Evaluate[bool](t, p, expression) {
			t.Errorf("%s is false", expression)
		}
	}
}

// Walks presses Tab until each selector's element had the focus, in this order,
// with something around it to be seen.
func (p *Tab) Walks(t *testing.T, selectors ...string) {
	t.Helper()
	const most = 500
	for i := 0; i < most && len(selectors) > 0; i++ {
		p.Do(t, chromedp.KeyEvent(kb.Tab))
		if !Evaluate[bool](t, p, `(() => {
			const e = document.activeElement, s = getComputedStyle(e)
			return e === document.body || e.matches(":focus-visible") && (s.outlineStyle !== "none" && parseFloat(s.outlineWidth) > 0 || s.boxShadow !== "none")
		})()`) {
			t.Errorf("nothing shows that the focus is on %s", Evaluate[string](t, p, "document.activeElement.outerHTML.slice(0, 200)"))
		}
		if Evaluate[bool](t, p, fmt.Sprintf("document.activeElement.matches(%q)", selectors[0])) {
			selectors = selectors[1:]
		}
	}
	if len(selectors) > 0 {
		t.Errorf("Tab does not lead to %q", selectors)
	}
}

// Viewport is how somebody sees a page.
type Viewport struct {
	Width, Height int64 // px
	Dark          bool
}

func (v Viewport) String() string {
	if v.Dark {
		return fmt.Sprintf("%d px, dark", v.Width)
	}
	return fmt.Sprintf("%d px, light", v.Width)
}

// viewports are the extremes.
var (
	NarrowLight, narrowDark = Viewport{360, 740, false}, Viewport{360, 740, true}
	wideLight, WideDark     = Viewport{1920, 1080, false}, Viewport{1920, 1080, true}
	Viewports               = []Viewport{NarrowLight, narrowDark, wideLight, WideDark}
)

func (p *Tab) As(t *testing.T, v Viewport) {
	t.Helper()
	scheme := "light"
	if v.Dark {
		scheme = "dark"
	}
	p.Do(t, chromedp.EmulateViewport(v.Width, v.Height))
	Call(t, p, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}},
	})
}

// WithoutScripts turns JavaScript off, from the next page on.
func (p *Tab) WithoutScripts(t *testing.T) {
	t.Helper()
	Call(t, p, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
}

// IsWellMade: on these screens nobody has to scroll sideways, and axe-core's rules
// hold.
func (p *Tab) IsWellMade(t *testing.T, on ...Viewport) {
	t.Helper()
	broken := make(map[string][]string) // by what is wrong, where
	for _, v := range on {
		p.As(t, v)
		for _, what := range slices.Concat(p.SticksOut(t), p.breaksRules(t), p.isFaint(t)) {
			broken[what] = append(broken[what], v.String())
		}
	}
	for what, where := range broken {
		t.Errorf("%s: %s", strings.Join(where, "; "), what)
	}
}

// SticksOut gives what makes the page wider than the window.
func (p *Tab) SticksOut(t *testing.T) []string {
	t.Helper()
	return Evaluate[[]string](t, p, `(() => {
		const root = document.documentElement
		if (root.scrollWidth <= root.clientWidth) return []
		const wide = [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > root.clientWidth + .5)
		return ["it scrolls sideways: " + wide.slice(0, 5).map(e => e.outerHTML.slice(0, 120)).join("\n  ")]
	})()`)
}

// breaksRules gives what axe-core finds. It runs in a world of its own beside the
// page's scripts.
func (p *Tab) breaksRules(t *testing.T) []string {
	t.Helper()
	const run = `axe.run(document, {
		runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
		resultTypes: ["violations"],
	}).then(result => result.violations.flatMap(rule => rule.nodes.map(node =>
		"axe-core: " + rule.id + " (" + rule.impact + "): " + rule.help + "\n  " + node.html.slice(0, 300) + "\n  " + node.failureSummary)))`
	frame := Call(t, p, page.GetFrameTree, cdp.Empty{}).FrameTree.Frame.ID
	world := Call(t, p, page.CreateIsolatedWorld, page.CreateIsolatedWorldParams{FrameID: frame, WorldName: "axe"}).ExecutionContextID
	there := func(p *runtime.EvaluateParams) { p.ContextID = world }
	ctx, cancel := context.WithTimeout(p.Ctx, time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, chromedp.Evaluate[chromedp.Void]("window.axe || (() => {"+p.axe+"})(); void 0", there)); err != nil {
		t.Fatalf("loading axe-core: %v", err)
	}
	broken, err := chromedp.Run(ctx, chromedp.Evaluate[[]string](run, there, chromedp.EvalAwaitPromise))
	if err != nil {
		t.Fatalf("running axe-core: %v", err)
	}
	return broken
}

// isFaint gives the words in graphs that are hard to read: axe-core leaves them
// out. What they stand on is their halo.
func (p *Tab) isFaint(t *testing.T) []string {
	t.Helper()
	return Evaluate[[]string](t, p, `(() => {
		const luminance = colour => { // WCAG 2.2's relative luminance
			const [r, g, b] = colour.match(/\d+/g).map(c => (c /= 255) <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4)
			return .2126 * r + .7152 * g + .0722 * b
		}
		return [...document.querySelectorAll("svg text")].flatMap(text => {
			const style = getComputedStyle(text)
			const [dark, light] = [luminance(style.fill), luminance(style.stroke)].sort((a, b) => a - b)
			const contrast = (light + .05) / (dark + .05)
			return contrast >= 4.5 ? [] : ["contrast of " + contrast.toFixed(2) + ", want 4.5: " + text.outerHTML + ": " + style.fill + " on " + style.stroke]
		})
	})()`)
}
