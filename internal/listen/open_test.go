package listen

import (
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
