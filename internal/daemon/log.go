package daemon

import (
	"context"
	"strings"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
)

// changeBuffer is how many changes may wait for a slow log. Beyond that lines of the log
// are lost, so that no poll is late.
const changeBuffer = 1024

// logChanges logs changes until ctx ends: each once, repetitions at level debug, never a
// line per check.
func logChanges(ctx context.Context, changes *cluster.Subscription, log zerolog.Logger) {
	defer changes.Close()
	for {
		select {
		case c := <-changes.C:
			logChange(log, c)
		case <-ctx.Done():
			for {
				select {
				case c := <-changes.C:
					logChange(log, c)
				default:
					return
				}
			}
		}
		if lost := changes.Lost(); lost > 0 {
			log.Warn().Int("lost", lost).Msg("changes were not logged, because the log is too slow")
		}
	}
}

func logChange(log zerolog.Logger, c cluster.Change) {
	e := log.WithLevel(levelOf(c)).Str("cluster", c.Cluster)
	if c.Node != "" {
		e = e.Str("node", c.Node)
	}
	e = e.Str("change", c.Kind).Str("before", c.Before).Str("after", c.After)
	if c.Reason != "" {
		e = e.Str("reason", c.Reason)
	}
	e.Msg(textOf(c))
}

// textOf describes a change.
func textOf(c cluster.Change) string {
	text := func(bad, badText, goodText string) string {
		if c.After == bad {
			return badText
		}
		return goodText
	}
	switch c.Kind {
	case cluster.KindLeader:
		return text("none", "no leader", "new leader")
	case cluster.KindPrimary:
		return text("none", "no primary: nobody can write", "there is a primary")
	case cluster.KindSplit:
		return text("yes", "split brain: several nodes claim to be primary", "split brain is over")
	case cluster.KindLevel:
		return "cluster health is " + c.After
	case cluster.KindAnswering:
		return text("no", "poll failed", "polls succeed")
	case cluster.KindKnown:
		return text("out", "node counts as down", "node is known")
	case cluster.KindIdentity:
		return text("wrong", "node has the wrong identity and is left out", "node has the right identity")
	case cluster.KindIdentityChanged:
		return "the cluster has another system identifier"
	case cluster.KindLeaving:
		return text("yes", "node is about to stop and no longer leads", "announced stop is over")
	case cluster.KindUnlisted:
		return text("yes", "the DCS no longer lists the node", "the DCS lists the node again")
	case cluster.KindReplica:
		return "replica check changed"
	case cluster.KindSettings:
		return text("unsafe", "cache.ttl is too long for this cluster", "cache.ttl is short enough for this cluster")
	case cluster.KindWatching:
		return "supervision ended"
	}
	return c.Kind + " changed" // role, state, timeline
}

// levelOf is warn or error for changes for the worse, which -quiet shows.
func levelOf(c cluster.Change) zerolog.Level {
	switch {
	case c.Repeat:
		return zerolog.DebugLevel
	case c.Kind == cluster.KindLevel && c.After == cluster.Warning.String() && c.Before == cluster.Critical.String():
		return zerolog.InfoLevel // an improvement; at start there always is one
	case c.Kind == cluster.KindSplit && c.After == "yes", c.Kind == cluster.KindLevel && c.After == cluster.Critical.String():
		return zerolog.ErrorLevel
	case (c.Kind == cluster.KindLeader || c.Kind == cluster.KindPrimary) && c.After == "none", c.Kind == cluster.KindIdentity && c.After == "wrong", c.Kind == cluster.KindIdentityChanged,
		c.Kind == cluster.KindKnown && c.After == "out", c.Kind == cluster.KindSettings && c.After == "unsafe",
		c.Kind == cluster.KindLevel && c.After == cluster.Warning.String():
		return zerolog.WarnLevel
	case c.Before == "not asked" && c.After == "yes", c.Kind == cluster.KindState && c.Before == "none" && c.After == "running",
		c.Kind == cluster.KindTimeline && c.Before == "unknown":
		return zerolog.DebugLevel // usual when a node answers for the first time
	}
	return zerolog.InfoLevel
}

func levelOfHealth(l cluster.Level) zerolog.Level {
	switch l {
	case cluster.OK:
		return zerolog.InfoLevel
	case cluster.Warning:
		return zerolog.WarnLevel
	}
	return zerolog.ErrorLevel
}

func reasonsText(reasons []cluster.Reason) string {
	texts := make([]string, len(reasons))
	for i, r := range reasons {
		texts[i] = r.Text
		if r.Node != "" {
			texts[i] = r.Node + ": " + r.Text
		}
	}
	return strings.Join(texts, "; ")
}
