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

// notifySystemd keeps the systemd informed that started us with Type=notify
// (sd_notify(3)), until ctx ends. Without a NOTIFY_SOCKET there is none. A failure is
// logged and ends nothing.
func (d *Daemon) notifySystemd(ctx context.Context) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	watchdog, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn().Err(err).Msg("cannot use systemd's watchdog")
	}
	d.notify(ctx, watchdog, d.send)
}

// send sends systemd a state, where there is a systemd.
func (d *Daemon) send(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.log.Warn().Err(err).Str("state", state).Msg("cannot notify systemd")
	}
}

// notifyReloading says that a reload begins. The function that it returns says that the
// reload is over, which is what systemctl reload waits for with Type=notify-reload
// (systemd 253). With Type=notify the unit's state shows it.
func (d *Daemon) notifyReloading() (over func()) {
	d.send(systemd.SdNotifyReloading + "\n" + systemd.SdNotifyMonotonicUsec())
	return func() { d.send(systemd.SdNotifyReady) }
}

// notify sends that the ports are open, then the status line whenever it changes, and at
// last that the daemon stops. For a watchdog it also sends twice in its time that the
// daemon works, but only while every poll loop makes progress: a daemon that has stopped
// polling has to be killed and started again.
func (d *Daemon) notify(ctx context.Context, watchdog time.Duration, send func(state string)) {
	changes := d.sup.Subscribe(1) // one is enough to know that there are changes
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
				d.log.Error().Err(err).Msg("not answering systemd's watchdog, because a poll loop is stuck")
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
