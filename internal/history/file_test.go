package history

import (
	"context"
	"errors"
	"net/url"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/node"
	"patroniglue/test/harness"
)

// unpolled is a supervisor that polls nothing: all its changes come from toggle.
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
func begin(t *testing.T, path string, size int) (*File, *cluster.Supervisor, *harness.Log) {
	log := new(harness.Log)
	sup := unpolled(size)
	h := New(sup, path, size, zerolog.New(log))
	h.Restore()
	t.Cleanup(h.Close)
	return h, sup, log
}

func TestHistoryFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 3)
	h.Flush()
	toggle(t, sup, 2)
	h.Flush()
	h.Flush() // nothing new
	h.Close()
	written := historyOf(t, sup)
	if got, want := harness.ReadLines(t, path), harness.ChangesAsJSON(t, written); len(want) != 10 || !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}

	// The next start reads them back and appends to them; with a smaller size it reads the latest.
	h, sup, log := begin(t, path, 100)
	harness.SameChanges(t, historyOf(t, sup), written)
	toggle(t, sup, 1)
	h.Flush()
	h.Close()
	written = historyOf(t, sup)
	if got, want := harness.ReadLines(t, path), harness.ChangesAsJSON(t, written); len(want) != 12 || !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}
	for i := 1; i < len(written); i++ {
		if written[i].ID <= written[i-1].ID {
			t.Errorf("id %d comes after %d", written[i].ID, written[i-1].ID)
		}
	}
	for _, size := range []int{1, 5, 11, 12, 13} {
		_, sup, _ = begin(t, path, size)
		harness.SameChanges(t, historyOf(t, sup), written[max(0, 12-size):])
		if h, _ := sup.History(cluster.Filter{}); h.Truncated != (size < 12) {
			t.Errorf("with %d of 12 changes: truncated %t", size, h.Truncated)
		}
	}
	if log.String() != "" {
		t.Errorf("log: %s", log)
	}
}

// A start after a rotation also reads what was written before it.
func TestHistoryFileRotated(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 3)
	h.Flush()
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	h.Close() // as after Reopen
	toggle(t, sup, 2)
	h.Flush()
	h.Close()
	want := historyOf(t, sup)
	for _, size := range []int{3, 7, 10, 100} {
		_, sup, log := begin(t, path, size)
		harness.SameChanges(t, historyOf(t, sup), want[max(0, 10-size):])
		if h, _ := sup.History(cluster.Filter{}); h.Truncated != (size < 10) || log.String() != "" {
			t.Errorf("with %d of 10 changes: truncated %t, log %q", size, h.Truncated, log)
		}
	}

	// The file was rotated while the daemon was down, and ends in half a line.
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
	harness.SameChanges(t, historyOf(t, sup), want[6:])
	if got := log.Lines("level", "warn", "file", path, "in", path+".1", "line", "5", "lines", "1"); len(got) != 1 {
		t.Errorf("log: %s", log)
	}
	toggle(t, sup, 1)
	h.Flush()
	h.Close()
	if got, want := harness.ReadLines(t, path), harness.ChangesAsJSON(t, historyOf(t, sup))[4:]; !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}
}

// Lines that are no changes, by a crash, an editor or another program, are skipped and
// logged. All changes stay.
func TestHistoryFileWithGarbage(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 2)
	h.Flush()
	h.Close()
	want := historyOf(t, sup)
	good := harness.ChangesAsJSON(t, want)
	text := strings.Join([]string{
		good[0], "", "garbage", good[1], `{"a":1}`, "5", strings.Repeat("x", 200<<10), "\x00\xff", good[1] /* again */, good[2],
		`{"at":"2026-01-02T15:04:05Z","lost":3}`, good[3], good[0][:20],
	}, "\n") // no line break at the end
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	h, sup, log := begin(t, path, 100)
	harness.SameChanges(t, historyOf(t, sup), want)
	if got := log.Lines("level", "warn", "file", path, "line", "3", "lines", "7"); len(got) != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log: %s", log)
	}
	toggle(t, sup, 1)
	h.Flush()
	h.Close()
	want = historyOf(t, sup)
	_, sup, _ = begin(t, path, 100)
	harness.SameChanges(t, historyOf(t, sup), want)
}

// While the disk is full changes wait in memory, and that is logged once.
func TestHistoryFileOnAFullDisk(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "history.jsonl")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	h, sup, log := begin(t, path, 100)
	for range 5 {
		toggle(t, sup, 1)
		h.Flush()
	}
	if got := log.Lines("level", "error", "file", path, "error", "write "+path+": no space left on device"); len(got) != 1 || strings.Count(log.String(), "\n") != 1 {
		t.Errorf("log while it is full: %s", log)
	}
	if err := os.Remove(path); err != nil { // there is room again
		t.Fatal(err)
	}
	h.Flush()
	h.Flush()
	if got := log.Lines("level", "info", "message", "history file is written again"); len(got) != 1 || strings.Count(log.String(), "\n") != 2 {
		t.Errorf("log when there is room again: %s", log)
	}
	if got, want := harness.ReadLines(t, path), harness.ChangesAsJSON(t, historyOf(t, sup)); len(want) != 10 || !reflect.DeepEqual(got, want) {
		t.Errorf("the file has\n%q\nwant\n%q", got, want)
	}
}

// A disk that becomes full may end a write in the middle of a line.
func TestHistoryFileAfterHalfALine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 100)
	toggle(t, sup, 1)
	h.Flush()
	if _, err := h.f.WriteString(`{"id":12`); err != nil {
		t.Fatal(err)
	}
	h.torn = true // as line notes when it wrote less than all
	toggle(t, sup, 1)
	h.Flush()
	h.Close()
	want := historyOf(t, sup)
	_, sup, log := begin(t, path, 100)
	harness.SameChanges(t, historyOf(t, sup), want)
	if len(want) != 4 || len(log.Lines("line", "3", "lines", "1")) != 1 {
		t.Errorf("%d changes, log: %s", len(want), log)
	}
}

// A file that cannot be opened is logged, and written once it can be.
func TestHistoryFileThatCannotBe(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	path := filepath.Join(dir, "history.jsonl")
	h, sup, log := begin(t, path, 100)
	toggle(t, sup, 1)
	h.Flush()
	if got := log.Lines("level", "error", "error", "open "+path+": no such file or directory"); len(got) != 1 {
		t.Errorf("log: %s", log)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	h.Flush()
	if got := harness.ReadLines(t, path); len(got) != 2 {
		t.Errorf("the file has %q", got)
	}

	h, _, log = begin(t, dir, 100) // a directory
	h.Flush()
	if got := log.Lines("level", "error", "error", "open "+dir+": is a directory"); len(got) != 1 {
		t.Errorf("log: %s", log)
	}
}

// The file counts the changes that were dropped before they could be written.
func TestHistoryFileThatLoses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "history.jsonl")
	h, sup, _ := begin(t, path, 3)
	toggle(t, sup, 1)
	h.Flush()
	toggle(t, sup, 4) // a disk that hangs meanwhile
	h.Flush()
	lines := harness.ReadLines(t, path)
	if len(lines) != 6 || !strings.Contains(lines[2], `"lost":5}`) || !reflect.DeepEqual(lines[3:], harness.ChangesAsJSON(t, historyOf(t, sup))) {
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
			h.Run(ctx)
		}()
		toggle(t, sup, 1)
		synctest.Wait()
		if err := os.Rename(path, rotated); err != nil {
			t.Fatal(err)
		}
		toggle(t, sup, 1) // before the signal
		synctest.Wait()
		h.Reopen()
		h.Reopen()
		synctest.Wait()
		toggle(t, sup, 1)
		synctest.Wait()
		if got, want := append(harness.ReadLines(t, rotated), harness.ReadLines(t, path)...), harness.ChangesAsJSON(t, historyOf(t, sup)); len(want) != 6 || !reflect.DeepEqual(got, want) || len(harness.ReadLines(t, path)) != 2 {
			t.Errorf("the files have\n%q\nwant\n%q", got, want)
		}

		// What could not be written is written without another change.
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink("/dev/full", path); err != nil {
			t.Fatal(err)
		}
		h.Reopen()
		synctest.Wait()
		toggle(t, sup, 1)
		synctest.Wait()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(retryAfter + time.Second)
		synctest.Wait()
		if got, want := harness.ReadLines(t, path), harness.ChangesAsJSON(t, historyOf(t, sup))[6:]; !reflect.DeepEqual(got, want) {
			t.Errorf("the file has\n%q\nwant\n%q\nlog %s", got, want, log)
		}
		cancel()
		<-done
	})
}
