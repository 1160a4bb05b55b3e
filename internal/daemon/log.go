package daemon

import (
	"context"
	"strings"

	"github.com/rs/zerolog"

	"patroniglue/cluster"
)

// changeBuffer is how many changes may wait for a slow log. It is lost lines
// then, never a late poll.
const changeBuffer = 1024

// logChanges writes what changed until ctx ends: each change once, repetitions
// at debug, never a line per check.
func logChanges(ctx context.Context, changes *cluster.Subscription, log zerolog.Logger) {
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
			log.Warn().Int("lost", lost).Msg("changes were not logged: the log is too slow")
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

// textOf says a change for people.
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
		return text("wrong", "node is not who it should be: it is left out", "node is who it should be")
	case cluster.KindIdentityChanged:
		return "the cluster has another system identifier"
	case cluster.KindLeaving:
		return text("yes", "node is about to stop: leads no more", "announced stop is over")
	case cluster.KindUnlisted:
		return text("yes", "the DCS does not list the node any more", "the DCS lists the node again")
	case cluster.KindReplica:
		return "replica check changed"
	case cluster.KindSettings:
		return text("unsafe", "cache.ttl is too long for this cluster", "cache.ttl is short enough for this cluster")
	case cluster.KindWatching:
		return "watching ended"
	}
	return c.Kind + " changed" // role, state, timeline
}

// levelOf makes a change for the worse stand out, which is what -quiet shows.
func levelOf(c cluster.Change) zerolog.Level {
	switch {
	case c.Repeat:
		return zerolog.DebugLevel
	case c.Kind == cluster.KindLevel && c.After == cluster.Warning.String() && c.Before == cluster.Critical.String():
		return zerolog.InfoLevel // it got better; at start it always does
	case c.Kind == cluster.KindSplit && c.After == "yes", c.Kind == cluster.KindLevel && c.After == cluster.Critical.String():
		return zerolog.ErrorLevel
	case (c.Kind == cluster.KindLeader || c.Kind == cluster.KindPrimary) && c.After == "none", c.Kind == cluster.KindIdentity && c.After == "wrong", c.Kind == cluster.KindIdentityChanged,
		c.Kind == cluster.KindKnown && c.After == "out", c.Kind == cluster.KindSettings && c.After == "unsafe",
		c.Kind == cluster.KindLevel && c.After == cluster.Warning.String():
		return zerolog.WarnLevel
	case c.Before == "not asked" && c.After == "yes", c.Kind == cluster.KindState && c.Before == "none" && c.After == "running",
		c.Kind == cluster.KindTimeline && c.Before == "unknown":
		return zerolog.DebugLevel // the usual, when a node is seen for the first time
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
