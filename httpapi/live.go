package httpapi

import (
	"net/http"
	"time"
)

// Of the page's stream.
const (
	liveEvery = time.Second            // how often ages and the like are shown anew
	liveSoon  = 100 * time.Millisecond // at least between two events: changes come in bursts
)

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
	viewer := s.pages.Watch(q)
	defer viewer.Close()

	due := time.Now()
	for {
		event, err := viewer.Event(due)
		if err != nil {
			return // the cluster is gone; who comes back is told
		}
		if out.send(event); out.err != nil {
			return
		}
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
