package httpapi_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

// event is one event of a stream. A comment has only text.
type event struct {
	name, id, data, comment string
}

// listener reads a stream of events.
type listener struct {
	*stack
	conn net.Conn
	body *bufio.Reader
}

// listen opens a stream. With lastID it continues after that event.
func (s *stack) listen(target, lastID string) *listener {
	s.Helper()
	c := s.dial()
	s.Cleanup(func() { c.Close() })
	request := "GET " + target + " HTTP/1.1\r\nhost: glue\r\n"
	if lastID != "" {
		request += "Last-Event-ID: " + lastID + "\r\n"
	}
	io.WriteString(c, request+"\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		s.Fatal(err)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" || resp.Header.Get("Cache-Control") != "no-store" {
		s.Fatalf("GET %s: %d %v", target, resp.StatusCode, resp.Header)
	}
	return &listener{s, c, bufio.NewReader(resp.Body)}
}

// next waits for an event. It returns an error, for instance io.EOF, when the stream ends.
func (l *listener) next() (e event, err error) {
	for {
		line, err := l.body.ReadString('\n')
		if err != nil {
			return e, err
		}
		line = strings.TrimSuffix(line, "\n")
		if line == "" {
			return e, nil
		}
		name, value, _ := strings.Cut(line, ": ")
		switch name {
		case "event":
			e.name = value
		case "id":
			e.id = value
		case "data":
			e.data = value
		case "":
			e.comment = value
		default:
			l.Fatalf("line %q in an event", line)
		}
	}
}

func (l *listener) must() event {
	l.Helper()
	e, err := l.next()
	if err != nil {
		l.Fatal(err)
	}
	return e
}

// changes reads n events, which have to be changes.
func (l *listener) changes(n int) []cluster.Change {
	l.Helper()
	var out []cluster.Change
	for range n {
		e := l.must()
		var c cluster.Change
		if err := json.Unmarshal([]byte(e.data), &c); err != nil || e.name != "change" || e.id != strconv.FormatUint(c.ID, 10) {
			l.Fatalf("event %+v: %v", e, err)
		}
		out = append(out, c)
	}
	return out
}

func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1", "pg2"), "main"))
		settle()
		before := s.history("")
		l := s.listen("/events", "")
		if e := l.must(); e != (event{id: fmt.Sprint(before.LastID)}) {
			t.Errorf("the stream begins with %+v, want the last id alone", e)
		}
		s.toggle()
		want := s.history(fmt.Sprintf("?after=%d", before.LastID)).Changes
		if got := l.changes(len(want)); len(want) < 2 || !reflect.DeepEqual(got, want) {
			t.Errorf("events %+v\nwant   %+v", got, want)
		}
		l.conn.Close()
		s.toggle() // no stream is open
		want = s.history(fmt.Sprintf("?after=%d", before.LastID)).Changes

		// Back again, by the header or by the parameter; the header is newer.
		for _, again := range []*listener{
			s.listen("/events", fmt.Sprint(before.LastID)),
			s.listen(fmt.Sprintf("/events?after=%d", before.LastID), ""),
			s.listen(fmt.Sprintf("/events?after=%d", before.LastID+2), fmt.Sprint(before.LastID)),
		} {
			if got := again.changes(len(want)); !reflect.DeepEqual(got, want) {
				t.Errorf("resumed: events %+v\nwant   %+v", got, want)
			}
		}

		// An id that is not known: of an earlier run, or of another daemon.
		for _, id := range []string{"1", "9999999999999999"} {
			last := s.history("").LastID
			l := s.listen("/events", id)
			if e := l.must(); e.name != "lost" || e.id != fmt.Sprint(last) || !json.Valid([]byte(e.data)) {
				t.Errorf("after id %s: %+v, want an event lost with id %d", id, e, last)
			}
			s.toggle()
			if got := l.changes(1); got[0].ID != last+1 {
				t.Errorf("after id %s: the next is %d, want %d", id, got[0].ID, last+1)
			}
		}
	})
}

// A stream of one cluster has that cluster's changes alone. Its reader misses nothing
// when it reconnects, however much changed elsewhere.
func TestEventsOfOne(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		a, b := members(t, nw, "", "alpha", "pg1", "pg2"), members(t, nw, "", "beta", "db1")
		s := start(t, nw, withToken, partOf(a, "a"), partOf(b, "b"))
		settle()
		begin := s.history("").LastID
		ofA, ofDB1, ofPG1 := s.listen("/events?cluster=a", ""), s.listen("/events?node=db1", ""), s.listen("/events?cluster=a&node=pg1", fmt.Sprint(begin))
		for _, l := range []*listener{ofA, ofDB1, ofPG1} {
			l.must() // the id alone
		}
		a.Node("pg2").Set(func(s *nodetest.State) { s.State = "starting" })
		b.Node("db1").Set(func(s *nodetest.State) { s.State = "starting" })
		time.Sleep(3 * time.Second)
		s.toggle() // of pg1
		for _, tt := range []struct {
			l     *listener
			query string
		}{{ofA, "?cluster=a"}, {ofDB1, "?node=db1"}, {ofPG1, "?cluster=a&node=pg1"}} {
			want := s.history(tt.query + fmt.Sprintf("&after=%d", begin)).Changes
			if got := tt.l.changes(len(want)); len(want) == 0 || !reflect.DeepEqual(got, want) {
				t.Errorf("%s: events %+v\nwant %+v", tt.query, got, want)
			}
		}
		// db1's reader got no change since then, but the id up to which it has all of them.
		last := s.history("").LastID
		if e := ofDB1.must(); e != (event{id: fmt.Sprint(last), comment: "still here"}) {
			t.Errorf("%+v, want the id %d", e, last)
		}
	})
}

// Browser tabs on hundreds of screens must not use the memory that checks need: the
// number of streams is bounded, and refusals have a reason and are counted.
func TestEventsHaveAnEnd(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		var open []*listener
		for range 256 {
			l := s.listen("/events", "")
			l.must()
			open = append(open, l)
		}
		synctest.Wait()
		want := httpapi.Streams{Open: 256, Sent: 256}
		if got := s.server.Streams(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		for _, method := range []string{"GET", "HEAD"} {
			a := s.ask(method, "/events")
			if a.status != 503 || a.header.Get("Retry-After") != "10" || a.header.Get("Content-Type") != "application/json" {
				t.Errorf("%s /events with 256 open: %d %v", method, a.status, a.header)
			}
			if text := errorBody("no more than 256 streams of events may be open: try again later, or use /history") + "\n"; method == "GET" && a.body != text {
				t.Errorf("%s, want %s", a.body, text)
			}
		}
		want.Refused = 2
		if got := s.server.Streams(); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		open[0].conn.Close()
		synctest.Wait()
		s.listen("/events", "").must()
		for _, l := range open {
			l.conn.Close()
		}
		synctest.Wait()
		if got := s.server.Streams(); got.Open != 1 || got.Dropped != 0 {
			t.Errorf("when all but one are gone: %+v", got)
		}
	})
}

// A quiet stream stays open beyond all timeouts of the server.
func TestEventsHeartbeat(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		l := s.listen("/events", "")
		first := l.must()
		for range 20 {
			begun := time.Now()
			if e := l.must(); e != (event{id: first.id, comment: "still here"}) || time.Since(begun) != 15*time.Second {
				t.Fatalf("%+v after %s, want a comment after 15s", e, time.Since(begun))
			}
		}
		s.toggle()
		l.changes(2)
	})
}

// A reader that hangs is disconnected, and never delays the supervisor.
func TestEventsReaderHangs(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		l := s.listen("/events", "")
		l.must()
		s.toggle()
		time.Sleep(4 * time.Second)
		if e, err := l.next(); err == nil {
			t.Errorf("a reader that read nothing for 4 s gets %+v", e)
		}
		if got, want := s.server.Streams(), (httpapi.Streams{Sent: 1, Dropped: 1}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
	})
}

// A reader that falls behind is told so, and misses nothing when it reconnects.
func TestEventsReaderIsSlow(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		begin := s.history("").LastID
		l := s.listen("/events", "")
		l.must()
		for range 300 {
			s.toggle()
		}
		time.Sleep(time.Second)
		var got []cluster.Change
		for {
			e := l.must()
			if e.name == "dropped" && json.Valid([]byte(e.data)) {
				break
			}
			var c cluster.Change
			if err := json.Unmarshal([]byte(e.data), &c); err != nil {
				t.Fatalf("%+v: %v", e, err)
			}
			got = append(got, c)
		}
		if e, err := l.next(); err != io.EOF {
			t.Errorf("after dropped: %+v, %v; want the end", e, err)
		}
		if counts := s.server.Streams(); counts.Open != 0 || counts.Dropped != 1 || counts.Sent != uint64(len(got))+2 {
			t.Errorf("%+v after %d changes, with the id at first and the note at last", counts, len(got))
		}
		want := s.history(fmt.Sprintf("?after=%d&limit=10000", begin)).Changes
		if len(got) == 0 || len(want) < 600 || len(got) >= len(want) {
			t.Fatalf("%d of %d changes before it was dropped", len(got), len(want))
		}
		again := s.listen("/events", fmt.Sprint(got[len(got)-1].ID))
		if got = append(got, again.changes(len(want)-len(got))...); !reflect.DeepEqual(got, want) {
			t.Error("coming back with the last id does not give the rest")
		}
	})
}

// Streams never end by themselves: they must not delay a stop.
func TestEventsEndAtStop(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withToken, partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		l, hung := s.listen("/events", ""), s.listen("/events", "")
		l.must()
		hung.must()
		before := s.history("").LastID
		s.toggle() // hung does not read it
		l.changes(int(s.history("").LastID - before))
		begun := time.Now()
		ended := make(chan error, 1)
		go func() {
			var err error
			for err == nil {
				_, err = l.next() // that the supervisor stops is a change, too
			}
			ended <- err
		}()
		s.stop()
		if err := <-ended; err != io.EOF {
			t.Errorf("the stream ended with %v, want a whole answer", err)
		}
		if took := time.Since(begun); took > 4*time.Second {
			t.Errorf("it took %s", took)
		}
		synctest.Wait()
	})
}
