package page

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
)

// liveEvent is the data of an event "page".
type liveEvent struct {
	Page     string            `json:"page"` // when it differs from the page's own id, the page has to be loaded again
	Level    string            `json:"level"`
	Title    string            `json:"title"`
	Clock    string            `json:"clock"`
	Sections map[string]string `json:"sections"` // HTML by the id of the element; those that changed since the previous event
}

// livePages are the pages that have viewers. A page is rendered once for all of its
// viewers, and so are the events for those that saw the same version before.
type livePages struct {
	mu    sync.Mutex // guards the rest
	pages map[Query]*livePage
}

// livePage is a page that has viewers.
type livePage struct {
	viewers int // guarded by livePages.mu

	mu     sync.Mutex // guards the rest, also while the page is rendered, for which all wait
	begun  time.Time
	page   *page
	sums   *sums            // of page
	events map[*sums]string // by the sums of the version that a viewer saw before; nil = none
}

func (l *livePages) add(q Query) *livePage {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pages[q] == nil {
		l.pages[q] = new(livePage)
	}
	l.pages[q].viewers++
	return l.pages[q]
}

func (l *livePages) remove(q Query) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.pages[q].viewers--; l.pages[q].viewers == 0 {
		delete(l.pages, q)
	}
}

// event returns the event for a viewer that saw the version with the sums before, about
// the page as it is at due or later.
func (l *livePage) event(due time.Time, before *sums, render func(now time.Time) (*page, error)) (event string, latest *sums, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.begun.Before(due) {
		begun := time.Now()
		rendered, err := render(begun)
		if err != nil {
			return "", nil, err
		}
		l.begun, l.page, l.sums, l.events = begun, rendered, rendered.sum(), make(map[*sums]string)
	}
	event, ok := l.events[before]
	if !ok {
		event = liveEventOf(l.page, l.page.changed(l.sums, before))
		l.events[before] = event
	}
	return event, l.sums, nil
}

func liveEventOf(p *page, sections map[string]string) string {
	var buf bytes.Buffer
	buf.WriteString("event: page\ndata: ")
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // it does not stand in an HTML page, and would grow by half
	// This does not fail. The only line break is at the end.
	enc.Encode(liveEvent{p.ID, p.LevelName, p.Title, p.Clock, sections})
	buf.WriteByte('\n')
	return buf.String()
}

// Viewer is one that views a page live.
type Viewer struct {
	renderer *Renderer
	query    Query
	page     *livePage
	shown    *sums // the version that the latest event brought the page to; nil = none
}

// Live adds a viewer of a page. The caller has to close it.
func (r *Renderer) Live(q Query) *Viewer {
	return &Viewer{renderer: r, query: q, page: r.live.add(q)}
}

// Event returns a server-sent event with what has changed since the viewer's previous
// one, as of due or later. It fails when the cluster is gone.
func (v *Viewer) Event(due time.Time) (string, error) {
	event, latest, err := v.page.event(due, v.shown, func(now time.Time) (*page, error) { return v.renderer.render(v.query, now) })
	if err != nil {
		return "", err
	}
	v.shown = latest
	return event, nil
}

// Close removes the viewer.
func (v *Viewer) Close() { v.renderer.live.remove(v.query) }
