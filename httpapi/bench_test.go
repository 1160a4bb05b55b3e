package httpapi_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"slices"
	"testing"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/httpapi"
)

// sink is a ResponseWriter that discards bodies.
type sink struct {
	header http.Header
	status int
}

func (w *sink) Header() http.Header         { return w.header }
func (w *sink) WriteHeader(status int)      { w.status = status }
func (w *sink) Write(b []byte) (int, error) { return len(b), nil }

// BenchmarkHTTPCheck measures our own part of a check, without net/http's.
func BenchmarkHTTPCheck(b *testing.B) {
	h := httpapi.New(httpapi.Config{Supervisor: ready(b)}).Handler()
	for _, method := range []string{"GET", "OPTIONS"} {
		for _, target := range []string{"/node/pg1/primary", "/node/pg2/replica?lag=1MB"} {
			b.Run(method+" "+target, func(b *testing.B) {
				u, err := url.ParseRequestURI(target)
				if err != nil {
					b.Fatal(err)
				}
				r := &http.Request{Method: method, URL: u, Header: http.Header{}, Body: http.NoBody}
				w := &sink{header: http.Header{}}
				b.ReportAllocs()
				for b.Loop() {
					h.ServeHTTP(w, r)
				}
				if w.status != 200 {
					b.Errorf("status %d", w.status)
				}
			})
		}
	}
}

// A fast check makes one allocation: the request as a string, of which the names in it are parts.
func TestFastAllocations(t *testing.T) {
	withoutRace(t)
	const most = 1
	s := httpapi.New(httpapi.Config{Supervisor: ready(t), Settings: httpapi.Settings{Fast: true}})
	for _, name := range []string{"HAProxy, option httpchk", "HAProxy, http-check send", "HAProxy, ver HTTP/1.1 hdr", "one that does not pass, close"} {
		request, out := []byte(checkers[name]), make([]byte, 0, 4096)
		if n := testing.AllocsPerRun(200, func() {
			if s.AnswerFast(loopback, request, out) == nil {
				t.Fatal("no answer")
			}
		}); n > most {
			t.Errorf("%s: %v allocations, want at most %d: every check of every load balancer would pay for more, and for their collection", name, n, most)
		}
	}
}

// A check through net/http makes the allocations of ServeMux for its path and, by GET, one for the length of the body.
func TestHTTPCheckAllocations(t *testing.T) {
	withoutRace(t)
	h := httpapi.New(httpapi.Config{Supervisor: ready(t)}).Handler()
	for _, tt := range []struct {
		method, target string
		most           float64
	}{
		{"GET", "/node/pg1/primary", 4},
		{"GET", "/node/pg2/replica?lag=1MB", 4},
		{"HEAD", "/node/pg1/primary", 2},
		{"OPTIONS", "/node/pg1/primary", 2},
	} {
		u, err := url.ParseRequestURI(tt.target)
		if err != nil {
			t.Fatal(err)
		}
		r := &http.Request{Method: tt.method, URL: u, Header: http.Header{}, Body: http.NoBody}
		w := &sink{header: http.Header{}}
		if n := testing.AllocsPerRun(200, func() { h.ServeHTTP(w, r) }); n > tt.most {
			t.Errorf("%s %s: %v allocations, want at most %v: every check of every load balancer would pay for more, and for their collection", tt.method, tt.target, n, tt.most)
		}
		if w.status != 200 {
			t.Errorf("%s %s: status %d", tt.method, tt.target, w.status)
		}
	}
}

// withoutRace skips a test where the race detector runs, which makes garbage of its own. ./build.sh test runs these tests
// once more without it.
func withoutRace(t *testing.T) {
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		t.Skip("NOT COUNTED with -race: allocations")
	}
}

// BenchmarkHTTPLoopback asks over real sockets, from as many clients as there
// are CPUs.
func BenchmarkHTTPLoopback(b *testing.B) {
	s := httpapi.New(httpapi.Config{Supervisor: ready(b), Log: zerolog.Nop()})
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, ln) }()
	b.Cleanup(func() { cancel(); <-done })
	for name, disable := range map[string]bool{"keep-alive": false, "close": true} {
		b.Run(name, func(b *testing.B) {
			tr := &http.Transport{DisableKeepAlives: disable, MaxIdleConnsPerHost: 100}
			defer tr.CloseIdleConnections()
			client := &http.Client{Transport: tr}
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Get("http://" + ln.Addr().String() + "/node/pg1/primary")
					if err != nil {
						b.Error(err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
		})
	}
}

// BenchmarkPage measures the time to the page's first byte. Of 300 nodes it should be
// below 20 ms.
func BenchmarkPage(b *testing.B) {
	for _, tt := range []struct {
		name, target    string
		clusters, nodes int
	}{
		{"one cluster of 3", "/", 1, 3},
		{"100 clusters of 3", "/", 100, 3},
		{"one of 100 clusters", "/ui/c42", 100, 3},
		{"one cluster of 300", "/", 1, 300},
	} {
		b.Run(tt.name, func(b *testing.B) {
			h := httpapi.New(httpapi.Config{Supervisor: many(b, tt.clusters, tt.nodes), AgentLine: func(line []byte, a cluster.Answer) []byte {
				return append(append(line, a.Verdict.Reason...), '\n')
			}}).Handler()
			u, err := url.ParseRequestURI(tt.target)
			if err != nil {
				b.Fatal(err)
			}
			r := &http.Request{Method: "GET", URL: u, Header: http.Header{}, Body: http.NoBody}
			w := &sink{header: http.Header{}}
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(w, r)
			}
			if w.status != 200 {
				b.Errorf("status %d", w.status)
			}
			b.ReportMetric(float64(b.Elapsed().Milliseconds())/float64(b.N), "ms/page")
		})
	}
}
