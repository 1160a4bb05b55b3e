//go:build linux

package main

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"patroniglue/contrib/lab"
)

// Nodes that a real etcd lists are found over one watch; nothing that is answered is wrong while their keys go, nor
// while they go themselves and come back at other ports.
func TestDiscoveredFleet(t *testing.T) {
	skip := t.Skipf
	if os.Getenv("PATRONIGLUE_LAB") == "required" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("etcd NOT TESTED: want root, to run it as its own user")
	}
	if err := lab.Check(t.Context(), lab.ETCD); err != nil {
		skip("etcd NOT TESTED: %v", err)
	}
	var out, log bytes.Buffer
	if err := run(t.Context(), strings.Fields("-etcd -sizes 9 -interval 200ms -duration 500ms -ttl 4s"), &out, &log); err != nil {
		t.Fatalf("%v\n%s%s", err, out.String(), log.String())
	}
	_, table, ok := strings.Cut(out.String(), "| "+strings.Join(discoveredColumns, " | ")+" |\n")
	lines := strings.Split(strings.TrimSpace(table), "\n")
	if !ok || len(lines) != 2 {
		t.Fatalf("got\n%s\nwant a second table with one row", out.String())
	}
	cells := strings.Split(strings.Trim(lines[1], "| "), " | ")
	for i, name := range discoveredColumns {
		switch cell := cells[i]; {
		case name == "nodes" && cell != "9", name == "watch streams, watchers" && cell != "1, 1", (name == "wrong" || name == "read again") && cell != "0":
			t.Errorf("%s: %s", name, cell)
		case name != "wrong" && strings.HasPrefix(cell, "0 "), strings.HasSuffix(name, "answers") && cell == "0":
			t.Errorf("%s: %s, want a figure", name, cell)
		}
	}
	t.Logf("\n%s", out.String())
}
