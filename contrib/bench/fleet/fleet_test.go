//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// The simulator is this program once more; in a test, the test's.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == simulate {
		main()
		return
	}
	os.Exit(m.Run())
}

// The whole bench, small: each column has a figure.
func TestFleet(t *testing.T) {
	var out, log bytes.Buffer
	if err := run(t.Context(), strings.Fields("-sizes 3,7 -interval 200ms -primary-interval 100ms -duration 500ms"), &out, &log); err != nil {
		t.Fatalf("%v\n%s", err, log.String())
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if want := "Polled each 200ms, primaries each 100ms."; lines[0] != want || len(lines) != 6 {
		t.Fatalf("got\n%s\nwant %q and four lines of a table", out.String(), want)
	}
	for i, nodes := range []string{"3", "7"} {
		cells := strings.Split(strings.Trim(lines[4+i], "| "), " | ")
		if len(cells) != len(columns) || cells[0] != nodes {
			t.Fatalf("row %q: want %s nodes and %d cells", lines[4+i], nodes, len(columns))
		}
		for j, cell := range cells {
			perNode := strings.HasSuffix(columns[j], "per node") // above those of the first row
			if ok := regexp.MustCompile(`^-?\d`).MatchString(cell); !ok && !(i == 0 && perNode) {
				t.Errorf("%s of %s nodes: %q, want a figure", columns[j], nodes, cell)
			}
			if (columns[j] == "polls/s" || columns[j] == "of") && cell == "0" {
				t.Errorf("%s of %s nodes is 0", columns[j], nodes)
			}
		}
	}
}

func TestClusterSizes(t *testing.T) {
	for nodes, want := range map[int][]int{3: {3}, 4: {4}, 8: {3, 5}, 9: {3, 3, 3}} {
		if diff := cmp.Diff(want, clusterSizes(nodes)); diff != "" {
			t.Errorf("%d nodes (-want +got):\n%s", nodes, diff)
		}
	}
}

func TestSimulator(t *testing.T) {
	s := newSimulator(7)
	primaries := func() (names []string) {
		for i, size := range clusterSizes(7) {
			for j := range size {
				if answer := s.reply(fmt.Sprintf("/%s/%s/primary", clusterName(i), nodeName(j))); bytes.HasPrefix(answer, []byte("HTTP/1.0 200 ")) {
					names = append(names, clusterName(i)+"/"+nodeName(j))
				}
			}
		}
		return names
	}
	if diff := cmp.Diff([]string{"c1/pg1", "c2/pg1"}, primaries()); diff != "" {
		t.Errorf("at first (-want +got):\n%s", diff)
	}
	if answer := string(s.reply("/c2/pg1/switchover")); !strings.HasSuffix(answer, "\r\npg2") {
		t.Errorf("switchover: %q", answer)
	}
	if diff := cmp.Diff([]string{"c1/pg1", "c2/pg2"}, primaries()); diff != "" {
		t.Errorf("after a switchover of c2 (-want +got):\n%s", diff)
	}
	if answer := string(s.reply("/answered")); !strings.HasSuffix(answer, "\r\n14") {
		t.Errorf("14 polls are counted as %q", answer)
	}
	for _, path := range []string{"/", "/c0/pg1/primary", "/c3/pg1/primary", "/c1/pg4/primary", "/c1/pg0/primary", "/c1/pg1"} {
		if answer := string(s.reply(path)); !strings.HasPrefix(answer, "HTTP/1.0 404 ") {
			t.Errorf("%s: %q", path, answer)
		}
	}
}

// It ends with who started it, even if that one could not say so.
func TestSimulatorEnds(t *testing.T) {
	stdin, ours := io.Pipe()
	address, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- runSimulator(t.Context(), []string{"3"}, stdin, stdout) }()
	line := make([]byte, 100)
	n, err := address.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	status, _, err := get(http.DefaultClient, "http://"+strings.TrimSpace(string(line[:n]))+"/c1/pg2/config")
	if status != 200 || err != nil {
		t.Errorf("/config = %d, %v", status, err)
	}
	ours.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestQuantile(t *testing.T) {
	var values []time.Duration
	for i := range 100 {
		values = append(values, time.Duration(i))
	}
	if a, b, none := quantile(values, 0.5), quantile(values, 0.99), quantile(nil, 0.5); a != 50 || b != 99 || none != 0 {
		t.Errorf("got %d, %d and %d of none", a, b, none)
	}
}

func TestOptions(t *testing.T) {
	for args, want := range map[string]string{
		"-sizes 3,x":                           `-sizes: want numbers from 3 (got "x")`,
		"-sizes 2":                             `-sizes: want numbers from 3 (got "2")`,
		"-primary-interval 3s":                 "-primary-interval: want 10ms to -interval (got 3s)",
		"-interval 1ms":                        "-primary-interval: want 10ms to -interval (got 1ms)",
		"-duration 0":                          "-duration: want more than 0 (got 0s)",
		"3":                                    `want only flags (got "3")`,
		"-sizes 3 -interval 1s -duration 1m3s": "",
	} {
		_, err := parseOptions(strings.Fields(args), io.Discard)
		if got := fmt.Sprint(err); got != want && !(want == "" && err == nil) {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}
