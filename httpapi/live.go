package httpapi

import (
	"net/http"
	"time"
)

// How often a page's stream has events.
const (
	liveEvery = time.Second            // the longest time between two events: ages grow
	liveSoon  = 100 * time.Millisecond // the shortest time between two events: changes come in bursts
)

// live streams what changes on a page: at every full second, and at once when a
// cluster changed. A slow reader gets fewer events, and a reader that hangs is
// disconnected.
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
	viewer := s.pages.Live(q)
	defer viewer.Close()

	due := time.Now()
	for {
		event, err := viewer.Event(due)
		if err != nil {
			return // the cluster is gone, which the reader is told when it reconnects
		}
		if out.send(event); out.err != nil {
			return
		}
		now := time.Now()
		next := now.Add(liveEvery - time.Duration(now.UnixNano())%liveEvery) // the same for all readers
		tick := time.After(next.Sub(now))
		due = time.Time{}
		for pause := time.After(liveSoon); due.IsZero() || pause != nil; {
			select {
			case c := <-changes.C:
				if !c.Repeat {
					due = time.Now()
				}
			case <-tick:
				if next.After(due) {
					due = next
				}
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
