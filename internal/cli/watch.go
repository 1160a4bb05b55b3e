package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/client"
	"patroniglue/internal/config"
)

const (
	minEvery     = 100 * time.Millisecond
	watchTimeout = 2500 * time.Millisecond // for one question to the daemon, all nodes together
)

// watchStatus shows the status again and again until ctx ends: redrawn in place
// on a terminal, else one table after another.
func watchStatus(ctx context.Context, cfg *config.Config, o statusOptions, stdout io.Writer) error {
	w := watcher{
		every: o.every, colour: takesColour(stdout), out: stdout,
		fetch: func(ctx context.Context) (client.Status, error) { return askStatus(ctx, cfg, o.cluster) },
	}
	if obeys(stdout) {
		w.size = func() (int, int) {
			columns, rows, _ := terminalSize(stdout)
			return max(columns, 1), max(rows, 1) // it may be gone: writing will say so
		}
	}
	resized, stopped := make(chan os.Signal, 1), make(chan os.Signal, 1)
	if w.size != nil {
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		signal.Notify(stopped, syscall.SIGTSTP) // Ctrl-Z: the shell wants its screen back
		defer signal.Stop(stopped)
	}
	w.resized, w.stopped = resized, stopped
	w.stop = func() error {
		// Go's runtime does not give SIGTSTP back. This signal stops as well, and
		// as little where no shell is there to continue us.
		err := syscall.Kill(syscall.Getpid(), syscall.SIGTTIN)
		time.Sleep(20 * time.Millisecond) // another thread may be the one that takes it
		return err
	}
	if err := w.run(ctx); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	return nil
}

// watcher asks, and shows what it heard.
type watcher struct {
	every            time.Duration
	fetch            func(context.Context) (client.Status, error)
	out              io.Writer
	colour           bool
	size             func() (columns, rows int) // nil: out is no terminal
	resized, stopped <-chan os.Signal
	stop             func() error // returns when this process was continued
}

// heard is what is known of the daemon.
type heard struct {
	report client.Status // the last one, if at is set
	at     time.Time     // when it was asked for
	err    error         // of the last question
	silent time.Time     // since when there are errors
}

func (w *watcher) run(ctx context.Context) (err error) {
	if w.size != nil {
		defer func() { err = errors.Join(err, w.write(leaveScreen)) }()
		if err := w.write(enterScreen); err != nil {
			return err
		}
	}
	type answer struct {
		asked  time.Time
		report client.Status
		err    error
	}
	answers := make(chan answer)
	ctx, cancel := context.WithCancel(ctx)
	asking := false
	ask := func() {
		asking = true
		go func() {
			asked := time.Now()
			ctx, cancel := context.WithTimeout(ctx, watchTimeout)
			defer cancel()
			report, err := w.fetch(ctx)
			answers <- answer{asked, report, err}
		}()
	}
	defer func() {
		cancel()
		if asking {
			<-answers
		}
	}()

	var h heard
	ask()
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		draw := w.size != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if asking { // what is known grows old before the reader's eyes
				break
			}
			ask()
			draw = false // until it answers
		case a := <-answers:
			asking, draw = false, true
			h.hear(a.asked, a.report, a.err)
		case <-w.resized:
		case <-w.stopped:
			if err := errors.Join(w.write(leaveScreen), w.stop(), w.write(enterScreen)); err != nil {
				return err
			}
		}
		if !draw || ctx.Err() != nil {
			continue
		}
		if err := w.write(w.frame(h, time.Now())); err != nil {
			return err
		}
	}
}

func (h *heard) hear(asked time.Time, report client.Status, err error) {
	switch {
	case err == nil:
		*h = heard{report: report, at: asked}
		return
	case h.err == nil:
		h.silent = asked
	}
	h.err = err
}

func (w *watcher) write(s string) error {
	_, err := io.WriteString(w.out, s)
	return err
}

// frame is all that is shown at once, for a terminal or for a file.
func (w *watcher) frame(h heard, now time.Time) string {
	if w.size == nil {
		if h.err != nil { // what is older stands above
			h.at = time.Time{}
		}
		return strings.Join(watchLines(h, now, w.every, style{}), "\n") + "\n\n"
	}
	columns, rows := w.size()
	return screen(watchLines(h, now, w.every, style{colour: w.colour, columns: columns}), columns, rows)
}

// From so many columns on addresses, and timeline, lag and age, are shown.
const (
	addressColumns = 100
	figureColumns  = 72
)

// watchLines are a header and the status, the clusters in trouble first. What
// the daemon does not answer any more is said to be past.
func watchLines(h heard, now time.Time, every time.Duration, l style) []string {
	var b bytes.Buffer
	fmt.Fprint(&b, "patroniglue  ", now.Format(time.DateTime), "  ")
	switch {
	case h.err != nil:
		l.stale = true
		silent := fmt.Sprintf("NO ANSWER since %s (%s)", h.silent.Format(time.TimeOnly), ago(h.silent, now))
		fmt.Fprintf(&b, "%s\n  %s\n", l.paint(cluster.Critical, silent), printable(whySilent(h.err)))
		if !h.at.IsZero() {
			fmt.Fprintf(&b, "  what it said %s ago, at %s:\n", ago(h.at, now), h.at.Format(time.TimeOnly))
		}
	case h.at.IsZero():
		fmt.Fprint(&b, "asking\n")
	default:
		fmt.Fprintf(&b, "answered %s ago, asked every %s\n", ago(h.at, now), every)
	}
	if !h.at.IsZero() {
		r := h.report
		r.Health.Clusters = worstFirst(r.Health.Clusters)
		if n := len(r.Health.Clusters); n > 1 {
			fmt.Fprintf(&b, "%d clusters: %s\n", n, countLevels(r, l))
		}
		b.WriteByte('\n')
		_ = printStatus(&b, r, l) // into memory: no error
	}
	return strings.Split(strings.TrimSuffix(b.String(), "\n"), "\n")
}

func ago(then, now time.Time) string {
	d := now.Sub(then)
	if d < 10*time.Second {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	return d.Round(time.Second).String()
}

// whySilent leaves out the URL: what follows names the address again, and is
// what a narrow terminal would cut.
func whySilent(err error) string {
	if asking, ok := errors.AsType[*url.Error](err); ok {
		err = asking.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + watchTimeout.String()
	}
	return err.Error()
}

func countLevels(r client.Status, l style) string {
	counts := map[cluster.Level]int{}
	for _, c := range r.Health.Clusters {
		counts[c.Level]++
	}
	var parts []string
	for _, level := range []cluster.Level{cluster.Critical, cluster.Warning, cluster.OK} {
		if counts[level] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[level], l.level(level)))
		}
	}
	return strings.Join(parts, ", ")
}
