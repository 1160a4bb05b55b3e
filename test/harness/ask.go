package harness

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"patroniglue/contrib/lab"
)

func PortOf(addr string) string {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		panic(err)
	}
	return port
}

// FreePort is a host:port for a program that binds it by itself.
func FreePort(t testing.TB) string {
	t.Helper()
	addr, err := lab.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// Ask makes one request over a connection of its own. A response without a body
// has "".
func Ask(t *testing.T, c *tls.Config, method, url string) (*http.Response, string) {
	t.Helper()
	resp, body, err := TryToAsk(t.Context(), c, method, url)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func TryToAsk(ctx context.Context, c *tls.Config, method, url string) (*http.Response, string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return nil, "", err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}, Timeout: 10 * time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// AskAgent sends a line, or nothing, and gives the answer.
func AskAgent(t *testing.T, addr, send string) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, send); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		t.Fatalf("agent at %s: %q, %v", addr, line, err)
	}
	return line
}

// HalfRequest opens a connection on which a request has begun.
func HalfRequest(t *testing.T, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	// On a new connection: one that has been used already counts as idle until a
	// whole header has come (net/http's Server.Shutdown).
	if _, err := io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: x\r\n"); err != nil {
		t.Fatal(err)
	}
	Ask(t, nil, "GET", "http://"+addr+"/livez") // it came later and is answered: conn was accepted
	return conn
}

// AskAs is ask with an Authorization header.
func AskAs(t *testing.T, c *tls.Config, authorization, method, url string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", authorization)
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: c}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

func BasicAuth(user, password string) string {
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}
