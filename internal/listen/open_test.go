package listen

import (
	"fmt"
	"net"
	"strings"
	"testing"

	"patroniglue/test/harness"
)

// A socket from systemd is found by its address, however that is written.
func TestOpenPassed(t *testing.T) {
	all, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer all.Close()
	one, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	var o Opener
	for _, ln := range []net.Listener{all, one} {
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		o.passed = append(o.passed, passedSocket{f, ln.Addr()})
	}
	allPort, onePort := harness.PortOf(all.Addr().String()), harness.PortOf(one.Addr().String())
	for addr, want := range map[string]net.Listener{
		":" + allPort: all, "0.0.0.0:" + allPort: all, "[::]:" + allPort: all, "127.0.0.1:" + allPort: nil,
		"127.0.0.1:" + onePort: one, "localhost:" + onePort: one, ":" + onePort: nil, "[::1]:" + onePort: nil, strings.Repeat("x", 64) + ".example:1": nil,
	} {
		got, err := o.openPassed(addr)
		if err != nil || (got == nil) != (want == nil) || got != nil && got.Addr().String() != want.Addr().String() {
			t.Errorf("%s: %v, %v, want %v", addr, got, err, want)
		}
		if got != nil {
			got.Close()
		}
	}
}

// Another address of a port that is in use can be listened on only where the listeners
// that have the port are about to close.
func TestOpenBeside(t *testing.T) {
	var o Opener
	open := func(addr string, port int, closing ...net.Listener) (net.Listener, error) {
		return o.Open(t.Context(), net.ListenConfig{}, addr, port, closing)
	}
	one, err := open("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	other, err := open("127.0.0.1:0", 0)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	port := one.Addr().(*net.TCPAddr).Port
	all := fmt.Sprint(":", port)
	for name, closing := range map[string][]net.Listener{"nothing closes": nil, "another port closes": {other}} {
		ln, err := open(all, port, closing...)
		want := "listen tcp " + all + ": bind: address already in use: want a free port, or stop the program that has it (ss -ltnp shows it)"
		if ln != nil || err == nil || err.Error() != want {
			t.Errorf("while %s: %v, want %s", name, err, want)
		}
	}
	beside, err := open(all, port, other, one)
	if err != nil {
		t.Fatalf("while the listener closes: %v", err)
	}
	beside.Close()
}
