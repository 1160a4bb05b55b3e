package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Of the page's stream.
const (
	liveEvery = time.Second            // how often ages and the like are shown anew
	liveSoon  = 100 * time.Millisecond // at least between two events: changes come in bursts
)

// liveEvent is the data of an event "page".
type liveEvent struct {
	Page     string            `json:"page"` // another id than the page's own: it has to be loaded again
	Level    string            `json:"level"`
	Title    string            `json:"title"`
	Clock    string            `json:"clock"`
	Sections map[string]string `json:"sections"` // HTML by the element's id; those that changed since the event before
}

// live streams a page: at every full second, and at once when something changed.
// A reader that is slow gets fewer events, one that hangs is cut off.
func (s *Server) live(w http.ResponseWriter, r *http.Request) {
	q, err := s.pageQuery(r)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	out, ok := s.openStream(w, r)
	if !ok {
		return
	}
	defer out.close()
	changes := s.sup.Subscribe(eventBuffer)
	defer changes.Close()
	shared := s.watched.join(q)
	defer s.watched.leave(q)

	var shown *sums
	due := time.Now()
	for {
		event, latest, err := shared.event(due, shown, func(now time.Time) (*page, error) { return s.render(q, now) })
		if err != nil {
			return // the cluster is gone; who comes back is told
		}
		if out.send(event); out.err != nil {
			return
		}
		shown = latest
		now := time.Now()
		next := now.Add(liveEvery - time.Duration(now.UnixNano())%liveEvery) // the same for all
		tick := time.After(next.Sub(now))
		due = time.Time{}
		for pause := time.After(liveSoon); due.IsZero() || pause != nil; {
			select {
			case c := <-changes.C:
				if !c.Repeat {
					due = time.Now()
				}
			case <-tick:
				due = later(due, next)
			case <-pause:
				pause = nil
			case <-out.stopping:
				return
			case <-r.Context().Done():
				return
			}
		}
	}
}

// watched are the pages that are watched live. Each is rendered once for all who
// watch it, and so is the event that says what changed since they saw it last.
type watched struct {
	mu    sync.Mutex // guards the rest
	pages map[pageQuery]*watchedPage
}

type watchedPage struct {
	watchers int // guarded by watched.mu

	mu     sync.Mutex // guards the rest, also while it is rendered: the others wait for that
	begun  time.Time
	page   *page
	sums   *sums            // of page
	events map[*sums]string // of page, for who saw that before; nil = nothing yet
}

func (w *watched) join(q pageQuery) *watchedPage {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.pages[q] == nil {
		w.pages[q] = new(watchedPage)
	}
	w.pages[q].watchers++
	return w.pages[q]
}

func (w *watched) leave(q pageQuery) {
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
