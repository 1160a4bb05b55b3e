package cli

import (
	"context"
	"errors"
	"net/url"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/test/harness"
)

// seen is what a frame leaves on a screen. Colours are shown as <1;31>.
func seen(frame string) string {
	frame = strings.NewReplacer(home, "", clearLine, "", clearBelow, "", "\r\n", "\n").Replace(frame)
	for rest := frame; ; {
		_, after, found := strings.Cut(rest, "\x1b[")
		if !found {
			return frame + "\n"
		}
		code, text, _ := strings.Cut(after, "m")
		frame, rest = strings.Replace(frame, "\x1b["+code+"m", "<"+code+">", 1), text
	}
}

func TestWatchFrame(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC)
	ok := heard{status: statusOf("main", cluster.OK), at: now.Add(-200 * time.Millisecond)}
	down := cluster.Reason{Code: "node_down", Level: cluster.Warning, Node: "pg3", Text: "no answer for 6s: connection refused"}
	split := cluster.Reason{Code: "split_brain", Level: cluster.Critical, Text: "pg1 and pg2 claim to be primary"}
	hostile := statusOf("main", cluster.Warning, cluster.Reason{Code: "lag", Level: cluster.Warning, Node: "pg2", Text: "\x1b[2Jm\x1b[32mok\r\n"})
	silent := ok
	silent.add(answer{asked: now.Add(-3 * time.Second), err: &url.Error{Op: "Get", URL: "http://127.0.0.1:8009/health", Err: errors.New("dial tcp 127.0.0.1:8009: connect: connection refused")}})
	silent.add(answer{asked: now.Add(-time.Second), err: context.DeadlineExceeded})
	tests := []struct {
		name          string
		heard         heard
		columns, rows int
		colour        bool
		want          string
	}{
		{"before the first answer", heard{}, 80, 24, true, "patroniglue  2026-11-23 03:04:05  asking\n"},
		{"wide", ok, 120, 24, false, `patroniglue  2026-11-23 03:04:05  answered 0.2s ago, asked every 1s

Cluster main: ok
  NODE  POSTGRES        ROLE              STATE    TL  LAG     AGE   PRIMARY  REPLICA  WHY
  pg1   10.0.0.11:5432  Leader (primary)  running  7   -       0.2s  yes      no       holds the leader lock
  pg2   10.0.0.12:5432  replica           running  7   1.0 MB  0.2s  no       yes      running replica
  pg3   10.0.0.13:5432  replica           running  7   2.0 MB  0.2s  no       yes      running replica
`},
		{"narrow, in colour", heard{status: dead(statusOf("main", cluster.Warning, down), 2, false), at: now}, 80, 24, true, `patroniglue  2026-11-23 03:04:05  answered 0.0s ago, asked every 1s

Cluster main: <33>warning<>
  <33>warning<>  node_down  pg3: no answer for 6s: connection refused
  NODE  ROLE              STATE        TL  LAG      AGE   PRIMARY  REPLICA  WHY
  pg1   Leader (primary)  running      7   -        0.2s  yes      no       hol>
  pg2   replica           running      7   1.0 MB   0.2s  no       yes      run>
  pg3   was replica       was running  7   unknown  6.0s  no       no       no >
`},
		{"the worst cluster first, and few rows", heard{status: both(statusOf("east", cluster.OK), dead(statusOf("west", cluster.Critical, split), 0, false)), at: now}, 60, 8, true,
			`patroniglue  2026-11-23 03:04:05  answered 0.0s ago, asked >
2 clusters: 1 <1;31>critical<>, 1 <32>ok<>

Cluster west: <1;31>critical<>
  <1;31>critical<>  split_brain  pg1 and pg2 claim to be primary
  NODE  ROLE         STATE        PRIMARY  REPLICA  WHY
  pg1   was primary  was running  no       no       no answ>
... 8 more lines: enlarge the window, or choose a -cluster
`},
		{"a telephone", ok, 52, 24, false, `patroniglue  2026-11-23 03:04:05  answered 0.2s ago>

Cluster main: ok
  NODE  ROLE              STATE    PRIMARY  REPLICA>
  pg1   Leader (primary)  running  yes      no     >
  pg2   replica           running  no       yes    >
  pg3   replica           running  no       yes    >
`},
		{"the daemon is silent: nothing is ok any more", silent, 80, 24, true, `patroniglue  2026-11-23 03:04:05  <1;31>NO ANSWER since 03:04:02 (3.0s)<>
  no answer within 2.5s
  what it said 0.2s ago, at 03:04:04:

Cluster main: was ok
  NODE  ROLE              STATE    TL  LAG     AGE   PRIMARY  REPLICA  WHY
  pg1   Leader (primary)  running  7   -       0.2s  was yes  was no   holds th>
  pg2   replica           running  7   1.0 MB  0.2s  was no   was yes  running >
  pg3   replica           running  7   2.0 MB  0.2s  was no   was yes  running >
`},
		{"hostile", heard{status: hostile, at: now}, 44, 5, true, `patroniglue  2026-11-23 03:04:05  answered >

Cluster main: <33>warning<>
  <33>warning<>  lag  pg2: ` + "\ufffd[2Jm\ufffd[32mok\ufffd\ufffd" + `
... 4 more lines: enlarge the window, or ch>
`},
		{"hardly a window", ok, 1, 1, true, ">\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			w := watcher{every: time.Second, colour: test.colour, size: func() (int, int) { return test.columns, test.rows }}
			frame := w.frame(test.heard, now)
			if d := gocmp.Diff(test.want, seen(frame)); d != "" {
				t.Errorf("(-want +got):\n%s", d)
			}
			if !strings.HasPrefix(frame, home) || strings.Count(frame, clearBelow) != 1 || strings.HasSuffix(frame, "\n") {
				t.Errorf("%q: want it to begin at the top, to clear what is below, and not to scroll", frame)
			}
		})
	}
}

// On a narrow terminal an address would hide the reason.
func TestWhySilent(t *testing.T) {
	for want, err := range map[string]error{
		"connection refused":       &client.UnansweredError{Err: &url.Error{Op: "Get", URL: "http://x", Err: syscall.ECONNREFUSED}},
		"no answer within 2.5s":    &client.UnansweredError{Err: &url.Error{Op: "Get", URL: "http://x", Err: context.DeadlineExceeded}},
		"unknown cluster \"west\"": &client.RefusedError{URL: "http://x", Status: 404, Reason: "unknown cluster \"west\""},
		"status code 500: does another program answer there, or a patroniglue with another version or configuration?": &client.StrangerError{URL: "http://x", Status: 500},
	} {
		if got := whySilent(err); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// writes is a terminal that records each write.
type writes struct {
	mu  sync.Mutex
	all []string // guarded by mu
	err error    // of every frame
}

func (w *writes) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, string(p))
	if strings.HasPrefix(string(p), home) {
		return len(p), w.err
	}
	return len(p), nil
}

// since returns what was written since the last call: of frames only the first line,
// without the time.
func (w *writes) since() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []string
	for _, text := range w.all {
		if strings.HasPrefix(text, home) {
			text, _, _ = strings.Cut(seen(text), "\n")
			text = strings.SplitN(text, "  ", 3)[2]
		}
		out = append(out, text)
	}
	w.all = nil
	return out
}

func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out, resized, stopped := &writes{}, make(chan os.Signal), make(chan os.Signal)
		var hangs, refuses, narrow atomic.Bool
		w := watcher{
			every: time.Second, out: out, resized: resized, stopped: stopped,
			size: func() (int, int) {
				if narrow.Load() {
					return 44, 24
				}
				return 80, 24
			},
			stop: func() error { _, err := out.Write([]byte("stopped")); return err },
			fetch: func(ctx context.Context) (client.Status, error) {
				if hangs.Load() {
					<-ctx.Done()
					return client.Status{}, ctx.Err()
				}
				time.Sleep(50 * time.Millisecond)
				if refuses.Load() {
					return client.Status{}, syscall.ECONNREFUSED
				}
				return statusOf("main", cluster.OK), nil
			},
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- w.run(ctx) }()
		expect := func(after time.Duration, want ...string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if d := gocmp.Diff(want, out.since()); d != "" {
				t.Errorf("at %s (-want +got):\n%s", time.Now().Format("05.0"), d)
			}
		}
		silent := "NO ANSWER since " + time.Now().Add(3*time.Second).Format(time.TimeOnly)
		const answered = "answered 0.1s ago, asked every 1s"
		expect(100*time.Millisecond, enterScreen, answered)
		expect(time.Second, answered)
		expect(time.Second, answered)

		narrow.Store(true)
		resized <- syscall.SIGWINCH
		expect(0, "answered >")
		narrow.Store(false)
		stopped <- syscall.SIGTSTP
		expect(0, leaveScreen, "stopped", enterScreen, answered)

		hangs.Store(true)
		expect(time.Second) // asked, and no word yet
		expect(time.Second, "answered 2.0s ago, asked every 1s")
		expect(time.Second, "answered 3.0s ago, asked every 1s")
		hangs.Store(false) // the next question is the first that is answered
		refuses.Store(true)
		expect(time.Second, silent+" (2.5s)", silent+" (3.0s)")
		refuses.Store(false)
		expect(time.Second, answered)

		cancel() // SIGINT, SIGTERM
		expect(0, leaveScreen)
		if err := <-ended; err != nil {
			t.Errorf("run: %v, want nil", err)
		}
	})
}

// A terminal that takes no more frames gets its screen back, as far as that is possible.
func TestWatchWriteError(t *testing.T) {
	out := &writes{err: syscall.EIO}
	w := watcher{
		every: time.Hour, out: out, size: func() (int, int) { return 80, 24 },
		fetch: func(context.Context) (client.Status, error) { return statusOf("main", cluster.OK), nil },
	}
	if err := w.run(t.Context()); !errors.Is(err, syscall.EIO) {
		t.Errorf("run: %v, want %v", err, syscall.EIO)
	}
	if all := out.since(); all[0] != enterScreen || all[len(all)-1] != leaveScreen {
		t.Errorf("writes: %q, want %q first and %q last", all, enterScreen, leaveScreen)
	}
}

// Into a file or a pipe one table follows another, without control sequences.
func TestWatchNoTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out harness.Log
		asked := 0
		w := watcher{every: 10 * time.Second, out: &out, fetch: func(context.Context) (client.Status, error) {
			if asked++; asked == 2 {
				return client.Status{}, syscall.ECONNREFUSED
			}
			return statusOf("main", cluster.OK), nil
		}}
		ctx, cancel := context.WithTimeout(t.Context(), 25*time.Second)
		defer cancel()
		if err := w.run(ctx); err != nil {
			t.Errorf("run: %v, want nil", err)
		}
		table := `Cluster main: ok
  NODE  POSTGRES        ROLE              STATE    TL  LAG     AGE   PRIMARY  REPLICA  WHY
  pg1   10.0.0.11:5432  Leader (primary)  running  7   -       0.2s  yes      no       holds the leader lock
  pg2   10.0.0.12:5432  replica           running  7   1.0 MB  0.2s  no       yes      running replica
  pg3   10.0.0.13:5432  replica           running  7   2.0 MB  0.2s  no       yes      running replica

`
		at := func(after time.Duration) string {
			return "patroniglue  " + time.Now().Add(after-25*time.Second).Format(time.DateTime) + "  "
		}
		want := at(0) + "answered 0.0s ago, asked every 10s\n\n" + table +
			at(10*time.Second) + "NO ANSWER since " + time.Now().Add(-15*time.Second).Format(time.TimeOnly) + " (0.0s)\n  connection refused\n\n" +
			at(20*time.Second) + "answered 0.0s ago, asked every 10s\n\n" + table
		if d := gocmp.Diff(want, out.String()); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}
