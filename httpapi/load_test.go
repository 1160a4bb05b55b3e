package httpapi_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/httpapi"
	"patroniglue/node/nodetest"
)

func withConns(n int) func(*httpapi.Config) {
	return func(c *httpapi.Config) { c.MaxConns = n }
}

// A check gets in however many connections others hold, and the one that was used
// last stays.
func TestIdleConnectionsGiveWay(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withConns(10), of(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		var held []net.Conn
		hold := func(send string) {
			c := s.dial()
			held = append(held, c)
			go io.WriteString(c, send)
			synctest.Wait()
		}
		for range 30 {
			hold("")
			hold("GET /primary HTTP/1.1\r\nho")
			if resp, _ := s.raw("GET /node/pg1/primary HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 {
				t.Fatalf("with %d connections held a check is %d", len(held), resp.StatusCode)
			}
		}
		if s.server.Conns() > 10 || s.server.Overflowed() < 50 {
			t.Errorf("%d open, %d gave way", s.server.Conns(), s.server.Overflowed())
		}
		keeps := s.dial()
		for range 5 {
			go io.WriteString(keeps, "GET /livez HTTP/1.1\r\nhost: glue\r\n\r\n")
			if n, err := keeps.Read(make([]byte, 1000)); err != nil || n == 0 {
				t.Fatalf("a connection that is used was closed: %v", err)
			}
			synctest.Wait()
			for range 9 {
				hold("")
			}
		}
		for _, c := range append(held, keeps) {
			c.Close()
		}
		synctest.Wait()
		if s.server.Conns() != 0 {
			t.Errorf("%d are open when all are gone", s.server.Conns())
		}
	})
}

// Whatever net/http answers by itself, or does not answer at all, is counted.
func TestUnanswered(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, of(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		var want uint64
		for _, tt := range []struct {
			name, send string
			want       uint64
		}{
			{"a check", "GET /primary HTTP/1.0\r\n\r\n", 0},
			{"one that does not pass", "GET /node/pg1/replica HTTP/1.0\r\n\r\n", 0},
			{"no route", "GET /x/y/z HTTP/1.0\r\n\r\n", 0},
			{"three in a row", strings.Repeat("GET /livez HTTP/1.1\r\nhost: glue\r\n\r\n", 2) + "GET /livez HTTP/1.0\r\n\r\n", 0},
			{"nothing", "", 1},
			{"half", "GET /pri", 1},
			{"a good one, then a bomb", "GET /livez HTTP/1.1\r\nhost: glue\r\n\r\nGET /" + strings.Repeat("a", 1<<20), 1},
			{"garbage", "\x00\xff\x16\x03\r\n\r\n", 1},
			{"a line of 1 MB", "GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.0\r\n\r\n", 1},
			{"headers of 1 MB", "GET / HTTP/1.0\r\n" + strings.Repeat("x: "+strings.Repeat("y", 100)+"\r\n", 10_000) + "\r\n", 1},
			{"a header without an end", "GET / HTTP/1.0\r\nx: " + strings.Repeat("y", 1<<20), 1},
			{"100,000 headers", "GET / HTTP/1.0\r\n" + strings.Repeat("a:\r\n", 100_000) + "\r\n", 1},
		} {
			c := s.dial()
			go io.WriteString(c, tt.send)
			begun := time.Now()
			got, _ := io.ReadAll(c)
			if took := time.Since(begun); took > 75*time.Second {
				t.Errorf("%s: open for %v", tt.name, took)
			}
			c.Close()
			synctest.Wait()
			want += tt.want
			if s.server.Unanswered() != want {
				t.Errorf("%s: %d unanswered, want %d; it got %.100q", tt.name, s.server.Unanswered(), want, got)
				want = s.server.Unanswered()
			}
		}
	})
}

// bigMetrics is a large answer of which every reader can be slow.
func bigMetrics(size int) func(*httpapi.Config) {
	return func(c *httpapi.Config) {
		body := strings.Repeat("x", size)
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
	}
}

// Who asks for large answers and does not read them holds no more than a bounded
// part of our memory, and keeps no check out.
func TestSlowReaders(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, bigMetrics(1<<20), of(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		var slow []net.Conn
		for range 64 {
			c := s.dial()
			slow = append(slow, c)
			io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n")
		}
		synctest.Wait()
		resp, body := s.raw("GET /metrics HTTP/1.0\r\n\r\n")
		want := "too many large answers wait for slow readers: come back later; checks are answered as ever"
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "10" || strings.TrimSpace(body) != errorBody("%s", want) || s.server.PutOff() != 1 {
			t.Errorf("with 64 MiB unread: %d %v %s, %d put off", resp.StatusCode, resp.Header, body, s.server.PutOff())
		}
		for _, target := range []string{"/node/pg1/primary", "/primary", "/node/pg1", "/livez"} {
			if resp, _ := s.raw("GET " + target + " HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("with 64 MiB unread %s is %d", target, resp.StatusCode)
			}
		}
		begun := time.Now()
		for i, c := range slow { // not at once: what is written in one piece is bounded, however it is read
			time.Sleep(time.Until(begun.Add(30*time.Second + time.Millisecond)))
			if got, _ := io.ReadAll(c); len(got) >= 1<<20 && i == 0 {
				t.Errorf("a reader that sleeps for 30 s gets %d bytes then", len(got))
			}
			c.Close()
		}
		synctest.Wait()
		if resp, body := s.raw("GET /metrics HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 || len(body) != 1<<20 {
			t.Errorf("when they are gone: %d and %d bytes", resp.StatusCode, len(body))
		}
	})
}

// One large answer is made at a time, and then none for as long: who waits for it
// too long is put off.
func TestLargeAnswersWaitForTheirTurn(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		making, most := 0, 0
		slow := func(c *httpapi.Config) {
			c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				making++ // the race detector sees when two are here
				most = max(most, making)
				time.Sleep(2 * time.Second)
				making--
				fmt.Fprintln(w, "made")
			})
		}
		s := start(t, nw, slow, of(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		got := make(chan int, 10)
		for range 10 {
			go func() { got <- s.get("/metrics").status }()
		}
		count := map[int]int{}
		for range 10 {
			count[<-got]++
		}
		if count[200] != 2 || count[503] != 8 || most != 1 || s.server.PutOff() != 8 {
			t.Errorf("%v, at most %d at once, %d put off; want 2 answers, one at a time, and 8 put off", count, most, s.server.PutOff())
		}
	})
}

// Who sends requests without waiting for answers holds up himself alone.
func TestPipelinedRequestsWait(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, of(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		const request = "GET /node/pg1/primary HTTP/1.1\r\nhost: glue\r\n\r\n"
		ask := func(n int, text string) (took time.Duration) {
			c := s.dial()
			defer c.Close()
			begun := time.Now()
			go io.WriteString(c, text)
			r := bufio.NewReader(c)
			for range n {
				resp, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					t.Errorf("%s, %v", resp.Status, err)
				}
			}
			return time.Since(begun)
		}
		took := make(chan time.Duration, 2)
		for range cap(took) {
			go func() { took <- ask(100, strings.Repeat(request, 100)) }()
		}
		time.Sleep(20 * time.Millisecond)
		if d := ask(1, request); d != 0 {
			t.Errorf("a check beside them takes %v", d)
		}
		for range cap(took) {
			if d := <-took; d < 150*time.Millisecond || d > 200*time.Millisecond {
				t.Errorf("a hundred on each of two connections take %v, want some 200 requests of 1 ms", d)
			}
		}
	})
}
