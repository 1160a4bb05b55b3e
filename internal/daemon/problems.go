package daemon

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
	"patroniglue/discovery"
)

// logStatus logs once that etcd does not answer, and once that it does.
func (f *discovered) logStatus(s discovery.Status, now time.Time) {
	switch since, silent := silence(&s, now); {
	case silent && !f.silent:
		f.silent = true
		f.d.log.Error().Err(s.Err).Time("since", since).Msg("discovery: etcd does not answer, keeping the known members")
	case s.Live && f.silent:
		f.silent = false
		f.d.log.Info().Msg("discovery: etcd answers")
	}
}

// silence reports whether etcd does not answer, and since when. Before its first answer
// one error suffices.
func silence(s *discovery.Status, now time.Time) (since time.Time, silent bool) {
	since, silent = s.Stale(now)
	return since, silent || !s.Live && s.Heard.IsZero() && s.Err != nil
}

// reasons are the problems of discovery at now.
func (f *discovered) reasons(now time.Time) (reasons []cluster.Reason) {
	if !f.d.plan.Load().cfg.Discovery.On() {
		return nil
	}
	level := cluster.Warning
	add := func(code, text string) {
		reasons = append(reasons, cluster.Reason{Code: code, Level: level, Text: text})
	}
	if len(f.d.sup.Views()) == 0 {
		level = cluster.Critical // there is nothing to answer for
	}
	s := f.watcher.Status()
	since, silent := silence(&s, now)
	switch pending := f.d.sup.Pending(); {
	case pending != "":
		add(cluster.CodeDiscoveryStale, pending)
	case silent:
		text := "discovery: etcd has not answered since " + since.UTC().Format("2006-01-02 15:04:05 UTC") + ", keeping the known members"
		if s.Err != nil {
			text += ": " + s.Err.Error()
		}
		add(cluster.CodeDiscoveryStale, text)
	}
	if problems := f.problems.Load(); problems != nil {
		const most = 10
		for _, text := range (*problems)[:min(len(*problems), most)] {
			add(cluster.CodeDiscoveryProblem, "discovery: "+text)
		}
		if more := len(*problems) - most; more > 0 {
			add(cluster.CodeDiscoveryProblem, fmt.Sprintf("discovery: %d more problems, see the log", more))
		}
	}
	return reasons
}

// maxLogged bounds how many problems of discovery are logged one by one.
const maxLogged = 1000

// problemLog logs each problem of discovery when it comes and when it is gone.
type problemLog struct {
	log    zerolog.Logger
	logged map[string]bool // and still there
}

// update logs how problems differ from those of the update before.
func (l *problemLog) update(problems []string) {
	logged := make(map[string]bool)
	for _, text := range problems {
		if len(logged) >= maxLogged {
			break
		}
		logged[text] = true
		if !l.logged[text] {
			l.log.Warn().Str("problem", text).Msg("discovery: problem")
		}
	}
	for _, text := range slices.Sorted(maps.Keys(l.logged)) {
		if !logged[text] {
			l.log.Info().Str("problem", text).Msg("discovery: problem resolved")
		}
	}
	l.logged = logged
}
