package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/node"
)

// unpolled is a supervisor that polls nobody: what changes is what toggle does.
func unpolled(size int) *cluster.Supervisor {
	return cluster.New(cluster.Config{TTL: time.Second, History: size, Clusters: []cluster.ClusterConfig{{
		Name: "main", Nodes: []cluster.NodeConfig{{Name: "pg1", Client: node.NewClient(node.Options{URL: &url.URL{Scheme: "http", Host: "pg1:8008"}, Timeout: time.Second})}},
	}}})
}

// toggle makes two changes, each n times.
func toggle(t *testing.T, sup *cluster.Supervisor, n int) {
	t.Helper()
	for range n {
		if _, err := sup.Leave("main", "pg1", time.Minute); err != nil {
			t.Fatal(err)
		}
		if _, err := sup.Stay("main", "pg1"); err != nil {
			t.Fatal(err)
		}
	}
}

func historyOf(t *testing.T, sup *cluster.Supervisor) []cluster.Change {
	t.Helper()
	h, err := sup.History(cluster.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	return h.Changes
}

// begin opens a history and restores it, as a daemon does at start.
func begin(t *testing.T, path string, size int) (*historyFile, *cluster.Supervisor, *programLog) {
	log := new(programLog)
	h, sup := newHistoryFile(path, size, zerolog.New(log)), unpolled(size)
	h.restore(sup)
	t.Cleanup(h.close)
	return h, sup, log
}

// same compares changes as JSON tells them: a time that was read has no
// monotonic clock.
func same(t *testing.T, got, want []cluster.Change) {
	t.Helper()
	g, w := asJSON(t, got), asJSON(t, want)
	if len(want) == 0 || !reflect.DeepEqual(g, w) {
		t.Errorf("got  %s\nwant %s", strings.Join(g, "\n     "), strings.Join(w, "\n     "))
	}
}

func asJSON(t *testing.T, changes []cluster.Change) []string {
	t.Helper()
	var out []string
	for _, c := range changes {
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, string(b))
	}
	return out
}

func linesOf(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 3)
	h.flush(sup)
	toggle(t, sup, 2)
	h.flush(sup)
	h.flush(sup) // nothing new
	h.close()
	written := historyOf(t, sup)
	if got, want := linesOf(t, path), asJSON(t, written); len(want) != 10 || !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}

	// The next start has them, and goes on; one with a smaller memory has the latest.
	h, sup, log := begin(t, path, 100)
	same(t, historyOf(t, sup), written)
	toggle(t, sup, 1)
	h.flush(sup)
	h.close()
	written = historyOf(t, sup)
	if got, want := linesOf(t, path), asJSON(t, written); len(want) != 12 || !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}
	for i := 1; i < len(written); i++ {
		if written[i].ID <= written[i-1].ID {
			t.Errorf("id %d comes after %d", written[i].ID, written[i-1].ID)
		}
	}
	for _, size := range []int{1, 5, 11, 12, 13} {
		_, sup, _ = begin(t, path, size)
		same(t, historyOf(t, sup), written[max(0, 12-size):])
		if h, _ := sup.History(cluster.Filter{}); h.Truncated != (size < 12) {
			t.Errorf("with %d of 12 changes: truncated %t", size, h.Truncated)
		}
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// A restart after a rotation has what was before, too.
func TestHistoryFileRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 3)
	h.flush(sup)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	h.close() // as rotated makes it
	toggle(t, sup, 2)
	h.flush(sup)
	h.close()
	want := historyOf(t, sup)
	for _, size := range []int{3, 7, 10, 100} {
		_, sup, log := begin(t, path, size)
		same(t, historyOf(t, sup), want[max(0, 10-size):])
		if h, _ := sup.History(cluster.Filter{}); h.Truncated != (size < 10) || log.String() != "" {
			t.Errorf("with %d of 10 changes: truncated %t, log %q", size, h.Truncated, log)
		}
	}

	// The daemon was down when it was rotated, and half a line is at its end.
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	rotated, err := os.OpenFile(path+".1", os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = rotated.WriteString(`{"id":12`)
	}
	if err := errors.Join(err, rotated.Close()); err != nil {
		t.Fatal(err)
	}
	h, sup, log := begin(t, path, 100)
	same(t, historyOf(t, sup), want[6:])
	if got := log.lines("level", "warn", "file", path, "in", path+".1", "line", "5", "lines", "1"); len(got) != 1 {
		t.Errorf("log: %s", log)
	}
	toggle(t, sup, 1)
	h.flush(sup)
	h.close()
	if got, want := linesOf(t, path), asJSON(t, historyOf(t, sup))[4:]; !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}
}

// A crash in the middle of a line, an editor, a foreign line: what is no change
// is skipped and said, what is one stays.
func TestHistoryFileWithGarbage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 2)
	h.flush(sup)
	h.close()
	want := historyOf(t, sup)
	good := asJSON(t, want)
	text := strings.Join([]string{
		good[0], "", "garbage", good[1], `{"a":1}`, "5", strings.Repeat("x", 200<<10), "\x00\xff", good[1] /* again */, good[2],
		`{"at":"2026-01-02T15:04:05Z","lost":3}`, good[3], good[0][:20],
	}, "\n") // no line break at the end
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h, sup, log := begin(t, path, 100)
	same(t, historyOf(t, sup), want)
	if got := log.lines("level", "warn", "file", path, "line", "3", "lines", "7"); len(got) != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", log)
	}
	toggle(t, sup, 1)
	h.flush(sup)
	h.close()
	want = historyOf(t, sup)
	_, sup, _ = begin(t, path, 100)
	same(t, historyOf(t, sup), want)
}

// While the disk is full changes wait in memory, and one log line says so.
func TestHistoryFileOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history.jsonl")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	h, sup, log := begin(t, path, 100)
	for range 5 {
		toggle(t, sup, 1)
		h.flush(sup)
	}
	if got := log.lines("level", "error", "file", path, "error", "write "+path+": no space left on device"); len(got) != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log while it is full: %s", log)
	}
	if err := os.Remove(path); err != nil { // there is room again
		t.Fatal(err)
	}
	h.flush(sup)
	h.flush(sup)
	if got := log.lines("level", "info", "message", "history is written again"); len(got) != 1 || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("log when there is room again: %s", log)
	}
	if got, want := linesOf(t, path), asJSON(t, historyOf(t, sup)); len(want) != 10 || !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}
}

// A disk that becomes full may end a write in the middle of a line.
func TestHistoryFileAfterHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 1)
	h.flush(sup)
	if _, err := h.f.WriteString(`{"id":12`); err != nil {
		t.Fatal(err)
	}
	h.torn = true // as line notes when it wrote less than all
	toggle(t, sup, 1)
	h.flush(sup)
	h.close()
	want := historyOf(t, sup)
	_, sup, log := begin(t, path, 100)
	same(t, historyOf(t, sup), want)
	if len(want) != 4 || len(log.lines("line", "3", "lines", "1")) != 1 {
		t.Errorf("%d changes, log: %s", len(want), log)
	}
}

// A directory that is missing or forbidden is said, and the daemon supervises.
func TestHistoryFileThatCannotBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	path := filepath.Join(dir, "history.jsonl")
	h, sup, log := begin(t, path, 100)
	toggle(t, sup, 1)
	h.flush(sup)
	if got := log.lines("level", "error", "error", "open "+path+": no such file or directory"); len(got) != 1 {
		t.Errorf("log: %s", log)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.flush(sup)
	if got := linesOf(t, path); len(got) != 2 {
		t.Errorf("the file has %q", got)
	}

	h, _, log = begin(t, dir, 100) // a directory
	h.flush(sup)
	if got := log.lines("level", "error", "error", "open "+dir+": is a directory"); len(got) != 1 {
		t.Errorf("log: %s", log)
	}
}

// What was dropped before it could be written is counted in the file.
func TestHistoryFileThatLoses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 3)
	toggle(t, sup, 1)
	h.flush(sup)
	toggle(t, sup, 4) // a disk that hangs meanwhile
	h.flush(sup)
	lines := linesOf(t, path)
	if len(lines) != 6 || !strings.Contains(lines[2], `"lost":5}`) || !reflect.DeepEqual(lines[3:], asJSON(t, historyOf(t, sup))) {
		t.Errorf("the file has\n%q", lines)
	}
	_, sup, log := begin(t, path, 100)
	if got, _ := sup.History(cluster.Filter{}); len(got.Changes) != 5 || !got.Truncated || log.String() != "" {
		t.Errorf("read back: %+v, log %s", got, log)
	}
}

// The loop writes at each change, again after a failure, and to a new file after
// a rotation.
func TestHistoryFileLoop(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path, rotated := filepath.Join(dir, "history.jsonl"), filepath.Join(dir, "history.jsonl.1")
		h, sup, log := begin(t, path, 100)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			h.write(ctx, sup)
		}()
		toggle(t, sup, 1)
		synctest.Wait()
		if err := os.Rename(path, rotated); err != nil {
			t.Fatal(err)
		}
		toggle(t, sup, 1) // before the signal
		synctest.Wait()
		h.rotated()
		h.rotated()
		synctest.Wait()
		toggle(t, sup, 1)
		synctest.Wait()
		if got, want := append(linesOf(t, rotated), linesOf(t, path)...), asJSON(t, historyOf(t, sup)); len(want) != 6 || !reflect.DeepEqual(got, want) || len(linesOf(t, path)) != 2 {
			t.Errorf("the files have\n%q\nwant\n%q", got, want)
		}

		// What could not be written is written without another change.
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/full", path); err != nil {
			t.Fatal(err)
		}
		h.rotated()
		synctest.Wait()
		toggle(t, sup, 1)
		synctest.Wait()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(historyRetry + time.Second)
		synctest.Wait()
		if got, want := linesOf(t, path), asJSON(t, historyOf(t, sup))[6:]; !reflect.DeepEqual(got, want) {
			t.Errorf("the file has\n%q\nwant\n%q\nlog %s", got, want, log)
		}
		cancel()
		<-done
	})
}

// The real daemon: over a restart, and over a rotation with SIGHUP.
func TestDaemonHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	sim := newSimulated(t, "pg1", "pg2")
	config := "[frontend]\n" + anyPort + fastPolls + "[history]\nfile = '" + path + "'\n" + nodesOf(sim, "")
	known := func(p *program) (h cluster.History) {
		t.Helper()
		_, body := ask(t, nil, "GET", "http://"+p.http+"/history")
		if err := json.Unmarshal([]byte(body), &h); err != nil {
			t.Fatalf("%v: %s", err, body)
		}
		return h
	}
	end := func(p *program, signal func(os.Signal) error) {
		t.Helper()
		if err := signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		if err := p.wait(); err != nil {
			t.Fatal(err)
		}
	}

	p, cmd := startBinary(t, config)
	before := known(p).Changes
	end(p, cmd.Process.Signal)
	if got := linesOf(t, path); len(got) < len(before) {
		t.Errorf("the file has %d lines, /history had %d", len(got), len(before))
	}

	p, cmd = startBinary(t, config)
	after := known(p).Changes
	if len(after) <= len(before) {
		t.Fatalf("%d changes after a restart, %d before", len(after), len(before))
	}
	same(t, after[:len(before)], before)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	sim.Kill("pg2")
	until(t, "the file is there again", func() bool {
		text, err := os.ReadFile(path)
		return err == nil && strings.Contains(string(text), `"node":"pg2","kind":"answering","before":"yes","after":"no"`)
	})
	end(p, cmd.Process.Signal)
	all := append(linesOf(t, path+".1"), linesOf(t, path)...)
	var last uint64
	for _, line := range all {
		var c cluster.Change
		if err := json.Unmarshal([]byte(line), &c); err != nil || c.ID <= last {
			t.Errorf("after id %d: %s", last, fmt.Sprint(line, err))
		}
		last = c.ID
	}
}
