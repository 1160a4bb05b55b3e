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

// watchStatus shows the status again and again until ctx ends: on a terminal in place,
// elsewhere one table after another.
func watchStatus(ctx context.Context, cfg *config.Config, o statusOptions, stdout io.Writer) error {
	w := watcher{
		every: o.every, colour: takesColour(stdout), out: stdout,
		fetch: func(ctx context.Context) (client.Status, error) { return askStatus(ctx, cfg, o.cluster) },
	}
	if obeys(stdout) {
		w.size = func() (int, int) {
			columns, rows, _ := terminalSize(stdout)
			return max(columns, 1), max(rows, 1) // a terminal that is gone has none: writing to it fails
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
		// Go's runtime cannot restore what SIGTSTP does by default. SIGTTIN stops the
		// process as well, and like SIGTSTP not where no shell could continue it.
		err := syscall.Kill(syscall.Getpid(), syscall.SIGTTIN)
		time.Sleep(20 * time.Millisecond) // the signal may be delivered to another thread
		return err
	}
	if err := w.run(ctx); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	return nil
}

// watcher asks for the status at regular intervals, and shows the answers.
type watcher struct {
	every            time.Duration
	fetch            func(context.Context) (client.Status, error)
	out              io.Writer
	colour           bool
	size             func() (columns, rows int) // nil: out is no terminal
	resized, stopped <-chan os.Signal
	stop             func() error // returns when this process was continued
}

// answer is the outcome of one question.
type answer struct {
	asked  time.Time
	status client.Status
	err    error
}

// heard sums up the answers so far.
type heard struct {
	status client.Status // the last one, if at is set
	at     time.Time     // when it was asked for
	err    error         // of the last question
	silent time.Time     // since when there are errors
}

// add takes the next answer into account.
func (h *heard) add(a answer) {
	switch {
	case a.err == nil:
		*h = heard{status: a.status, at: a.asked}
		return
	case h.err == nil:
		h.silent = a.asked
	}
	h.err = a.err
}

// run redraws the screen until ctx ends, and then gives it back.
func (w *watcher) run(ctx context.Context) (err error) {
	if w.size != nil {
		defer func() { err = errors.Join(err, w.write(leaveScreen)) }()
		if err := w.write(enterScreen); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer)
	asking := true
	go w.ask(ctx, answers)
	defer func() {
		cancel()
		if asking {
			<-answers
		}
	}()

	var h heard
	tick := time.NewTicker(w.every)
	defer tick.Stop()
	for {
		draw := w.size != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if asking { // the ages on the screen go on
				break
			}
			asking = true
			go w.ask(ctx, answers)
			draw = false // until it answers
		case a := <-answers:
			asking, draw = false, true
			h.add(a)
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

// ask puts one question, which ends in time.
func (w *watcher) ask(ctx context.Context, answers chan<- answer) {
	asked := time.Now()
	ctx, cancel := context.WithTimeout(ctx, watchTimeout)
	defer cancel()
	status, err := w.fetch(ctx)
	answers <- answer{asked, status, err}
}

func (w *watcher) write(s string) error {
	_, err := io.WriteString(w.out, s)
	return err
}

// frame is everything that is shown at once, on a terminal or in a file.
func (w *watcher) frame(h heard, now time.Time) string {
	if w.size == nil {
		if h.err != nil { // the last status stands above
			h.at = time.Time{}
		}
		return strings.Join(watchLines(h, now, w.every, style{}), "\n") + "\n\n"
	}
	columns, rows := w.size()
	return screen(watchLines(h, now, w.every, style{colour: w.colour, columns: columns}), columns, rows)
}

// watchLines are a header and the status, the clusters in trouble first. While the
// daemon does not answer, levels and verdicts are marked as past.
func watchLines(h heard, now time.Time, every time.Duration, st style) []string {
	var b bytes.Buffer
	fmt.Fprint(&b, "patroniglue  ", now.Format(time.DateTime), "  ")
	switch {
	case h.err != nil:
		st.stale = true
		silent := fmt.Sprintf("NO ANSWER since %s (%s)", h.silent.Format(time.TimeOnly), ago(h.silent, now))
		fmt.Fprintf(&b, "%s\n  %s\n", st.paint(cluster.Critical, silent), printable(whySilent(h.err)))
		if !h.at.IsZero() {
			fmt.Fprintf(&b, "  what it said %s ago, at %s:\n", ago(h.at, now), h.at.Format(time.TimeOnly))
		}
	case h.at.IsZero():
		fmt.Fprint(&b, "asking\n")
	default:
		fmt.Fprintf(&b, "answered %s ago, asked every %s\n", ago(h.at, now), every)
	}
	if !h.at.IsZero() {
		s := h.status
		s.Health.Clusters = worstFirst(s.Health.Clusters)
		if n := len(s.Health.Clusters); n > 1 {
			fmt.Fprintf(&b, "%d clusters: %s\n", n, countLevels(s, st))
		}
		b.WriteByte('\n')
		_ = printStatus(&b, s, st) // into memory: no error
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

// whySilent leaves out the URL, behind which a narrow terminal would cut the reason.
func whySilent(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer within " + watchTimeout.String()
	}
	if asking, ok := errors.AsType[*url.Error](err); ok {
		return asking.Err.Error()
	}
	if refused, ok := errors.AsType[*client.RefusedError](err); ok {
		return refused.Reason
	}
	if stranger, ok := errors.AsType[*client.StrangerError](err); ok {
		return strings.TrimPrefix(err.Error(), stranger.URL+": ")
	}
	return err.Error()
}

func countLevels(s client.Status, st style) string {
	counts := map[cluster.Level]int{}
	for _, c := range s.Health.Clusters {
		counts[c.Level]++
	}
	var parts []string
	for _, level := range []cluster.Level{cluster.Critical, cluster.Warning, cluster.OK} {
		if counts[level] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", counts[level], st.level(level)))
		}
	}
	return strings.Join(parts, ", ")
}
