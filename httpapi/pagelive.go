package httpapi

import (
	"bytes"
	"encoding/json"
	"net/http"
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

// live streams a page: every second, and at once when something changed. A
// reader that is slow gets fewer events, one that hangs is cut off.
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

	sent := make(map[string]uint64)
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for {
		p, err := s.render(q, time.Now())
		if err != nil {
			return // the cluster is gone; who comes back is told
		}
		if out.send(liveEventOf(p, sent)); out.err != nil {
			return
		}
		for due, pause := false, time.After(liveSoon); !due || pause != nil; {
			select {
			case c := <-changes.C:
				due = due || !c.Repeat
			case <-tick.C:
				due = true
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

func liveEventOf(p *page, sent map[string]uint64) string {
	var buf bytes.Buffer
	buf.WriteString("event: page\ndata: ")
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false) // it is no HTML page that this stands in, and grows by half
	// Nothing in it fails. Its only line break is the last.
	enc.Encode(liveEvent{p.ID, p.LevelName, p.Title, p.Clock, p.changed(sent)})
	buf.WriteByte('\n')
	return buf.String()
}
