package daemon

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"patroniglue/cluster"
)

// tellSystemd speaks to the systemd that started us with Type=notify
// (sd_notify(3)) until ctx ends. Where no NOTIFY_SOCKET is given it has nobody
// to speak to. What goes wrong is logged: it ends nothing.
func (d *Daemon) tellSystemd(ctx context.Context) error {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn().Err(err).Msg("systemd's watchdog gets no answer")
	}
	d.notify(ctx, watchdog, func(state string) {
		if _, err := systemd.SdNotify(false, state); err != nil {
			d.log.Warn().Err(err).Str("state", state).Msg("systemd was not told")
		}
	})
	return nil
}

// tellReloading says that the configuration is being loaded anew, and what it
// gives that this is over: with Type=notify-reload (systemd 253) systemctl reload
// waits for that, with Type=notify it is shown in the unit's state.
func (d *Daemon) tellReloading() (over func()) {
	tell := func(state string) {
		if _, err := systemd.SdNotify(false, state); err != nil { // nil where there is nobody to tell
			d.log.Warn().Err(err).Str("state", state).Msg("systemd was not told")
		}
	}
	tell(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	return func() { tell(systemd.SdNotifyReady) }
}

// notify sends that the ports are open, what is known of the clusters whenever
// that changes, and at last that we stop. With a watchdog it says twice in that
// time that all is well, but only while every poll loop really turns: a daemon
// that has stopped looking is to be killed and started again, not believed.
func (d *Daemon) notify(ctx context.Context, watchdog time.Duration, send func(state string)) {
	changes := d.sup.Subscribe(1) // one is enough to know that something changed
	defer changes.Close()
	var ticks <-chan time.Time
	if watchdog > 0 {
		ticker := time.NewTicker(watchdog / 2)
		defer ticker.Stop()
		ticks = ticker.C
	}
	send(systemd.SdNotifyReady)
	for status := ""; ; {
		if line := d.statusLine(); line != status {
			status = line
			send("STATUS=" + status)
		}
		select {
		case <-changes.C:
		case <-ticks:
			if err := d.sup.Stuck(time.Now()); err != nil {
				d.log.Error().Err(err).Msg("systemd's watchdog gets no answer: a poll loop does not turn")
			} else {
				send(systemd.SdNotifyWatchdog)
			}
		case <-ctx.Done():
			send(systemd.SdNotifyStopping)
			return
		}
	}
}

// statusLine is what systemctl status shows: each cluster's health and leader.
func (d *Daemon) statusLine() string {
	if pending := d.sup.Pending(); pending != "" {
		return strings.ToValidUTF8(pending[:min(len(pending), maxStatus)], "")
	}
	if !d.sup.Ready() {
		return "polling every node for the first time"
	}
	return statusOf(d.sup.Views(), time.Now())
}

func statusOf(views []*cluster.View, now time.Time) string {
	var clusters []string
	levels := make(map[cluster.Level]int)
	for _, v := range views {
		level := v.Health(now).Level
		levels[level]++
		clusters = append(clusters, fmt.Sprintf("%s: %s, leader %s", v.Cluster, level, cmp.Or(v.Leader, "none")))
	}
	if line := strings.Join(clusters, "; "); len(line) <= maxStatus {
		return line
	}
	return fmt.Sprintf("%d clusters: %d ok, %d warning, %d critical", len(views), levels[cluster.OK], levels[cluster.Warning], levels[cluster.Critical])
}

// maxStatus bounds the status: systemd drops a whole notification above 4096 bytes
// (NOTIFY_BUFFER_MAX), and nobody reads a line of a thousand clusters.
const maxStatus = 1000
