package page

import (
	"bytes"
	"encoding/json"
	"sync"
	"time"
)

// liveEvent is the data of an event "page".
type liveEvent struct {
	Page     string            `json:"page"` // another id than the page's own: it has to be loaded again
	Level    string            `json:"level"`
	Title    string            `json:"title"`
	Clock    string            `json:"clock"`
	Sections map[string]string `json:"sections"` // HTML by the element's id; those that changed since the event before
}

// watched are the pages that are watched live. Each is rendered once for all who
// watch it, and so is the event that says what changed since they saw it last.
type watched struct {
	mu    sync.Mutex // guards the rest
	pages map[Query]*watchedPage
}

type watchedPage struct {
	watchers int // guarded by watched.mu

	mu     sync.Mutex // guards the rest, also while it is rendered: the others wait for that
	begun  time.Time
	page   *page
	sums   *sums            // of page
	events map[*sums]string // of page, for who saw that before; nil = nothing yet
}

func (w *watched) join(q Query) *watchedPage {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages[q] == nil {
		w.pages[q] = new(watchedPage)
	}
	w.pages[q].watchers++
	return w.pages[q]
}

func (w *watched) leave(q Query) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages[q].watchers--; w.pages[q].watchers == 0 {
		delete(w.pages, q)
	}
}

// event tells of the page as it was at due or later, to who has been shown what
// has the sums before.
func (w *watchedPage) event(due time.Time, before *sums, render func(now time.Time) (*page, error)) (event string, latest *sums, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.begun.Before(due) {
		begun := time.Now()
		page, err := render(begun)
		if err != nil {
			return "", nil, err
		}
		w.begun, w.page, w.sums, w.events = begun, page, page.sum(), make(map[*sums]string)
	}
	event, ok := w.events[before]
	if !ok {
		event = liveEventOf(w.page, w.page.changed(w.sums, before))
		w.events[before] = event
	}
	return event, w.sums, nil
}

func liveEventOf(p *page, sections map[string]string) string {
	var buf bytes.Buffer
	buf.WriteString("event: page\ndata: ")
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // it is no HTML page that this stands in, and grows by half
	// Nothing in it fails. Its only line break is the last.
	enc.Encode(liveEvent{p.ID, p.LevelName, p.Title, p.Clock, sections})
	buf.WriteByte('\n')
	return buf.String()
}

// Viewer is somebody who watches a page live.
type Viewer struct {
	renderer *Renderer
	query    Query
	page     *watchedPage
	shown    *sums // what the latest event brought the page to; nil = nothing yet
}

// Watch adds a viewer, which the caller closes.
func (s *Renderer) Watch(q Query) *Viewer {
	return &Viewer{renderer: s, query: q, page: s.watched.join(q)}
}

// Event returns what changed since the viewer's event before, as the page was at due or later. It fails when the cluster is gone.
func (v *Viewer) Event(due time.Time) (string, error) {
	event, latest, err := v.page.event(due, v.shown, func(now time.Time) (*page, error) { return v.renderer.render(v.query, now) })
	if err != nil {
		return "", err
	}
	v.shown = latest
	return event, nil
}

// Close ends the watch.
func (v *Viewer) Close() { v.renderer.watched.leave(v.query) }
