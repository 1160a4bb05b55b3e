package httpapi_test

import (
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

// bigMetrics makes /metrics an answer of that size.
func bigMetrics(size int) func(*httpapi.Config) {
	return func(c *httpapi.Config) {
		body := strings.Repeat("x", size)
		c.Metrics = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) })
	}
}

// Clients that request large answers and do not read them occupy a bounded amount of
// memory, and keep no check out.
func TestSlowReaders(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, bigMetrics(1<<20), partOf(members(t, nw, "", "main", "pg1"), "main"))
		settle()
		var slow []net.Conn
		for range 64 {
			c := s.dial()
			slow = append(slow, c)
			io.WriteString(c, "GET /metrics HTTP/1.0\r\n\r\n")
		}
		synctest.Wait()
		resp, body := s.raw("GET /metrics HTTP/1.0\r\n\r\n")
		want := "too many large answers wait for slow readers: try again later; checks are not affected"
		if resp.StatusCode != 503 || resp.Header.Get("Retry-After") != "10" || strings.TrimSpace(body) != errorBody("%s", want) || s.server.PutOff() != 1 {
			t.Errorf("with 64 MiB unread: %d %v %s, %d put off", resp.StatusCode, resp.Header, body, s.server.PutOff())
		}
		for _, target := range []string{"/node/pg1/primary", "/primary", "/node/pg1", "/livez"} {
			if resp, _ := s.raw("GET " + target + " HTTP/1.0\r\n\r\n"); resp.StatusCode != 200 {
				t.Errorf("with 64 MiB unread %s is %d", target, resp.StatusCode)
			}
		}
		begun := time.Now()
		for i, c := range slow { // one after another: the time for writing an answer is bounded, however it is read
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

// One large answer is made at a time, and then none for as long. Requests that would wait
// too long are refused.
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
		s := start(t, nw, slow, partOf(members(t, nw, "", "main", "pg1"), "main"))
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
