package httpapi_test

import (
	"io"
	"net"
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

// A check can connect, however many connections others hold, and the connection that was
// used last stays open.
func TestIdleConnectionsGiveWay(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, withConns(10), partOf(members(t, nw, "", "main", "pg1"), "main"))
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

// Requests that net/http answers by itself, or does not answer, are counted.
func TestUnanswered(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
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
