package httpapi_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"patroniglue/node/nodetest"
)

// A client that sends requests without waiting for answers delays only itself.
func TestPipelinedRequestsWait(t *testing.T) {
	bubble(t, func(t *testing.T, nw *nodetest.Net) {
		s := start(t, nw, nil, partOf(members(t, nw, "", "main", "pg1"), "main"))
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
