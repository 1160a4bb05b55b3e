package config

import (
	"fmt"
	"math"
	"time"
)

// Backend is [backend]: how a node is polled. Every key of it can also be in a
// [[node]], for that node.
type Backend struct {
	// Scheme ("scheme") is http or https, for nodes that give host and port
	// instead of url. Default "http".
	Scheme string

	// CAfile ("cafile") is a PEM file of the authorities that sign the nodes'
	// certificates. Default "": those of the system.
	CAfile string

	// Certfile and Keyfile ("certfile", "keyfile") are our client certificate, for
	// Patroni's verify_client: required; both or neither. Default "".
	Certfile, Keyfile string

	// ServerName ("server-name") is the name that a node's certificate must have.
	// Default "": the host of its url.
	ServerName string

	// Verify ("verify") is what a node's certificate must fulfil, in libpq's words:
	// "full" (an authority signed it, and it has the name), "ca" (an authority signed
	// it) or "none". Default "full". "insecure" is the old key for it: true is "none".
	Verify string

	// Interval ("interval") is the time between two polls of a node. Default 1s. See
	// Cache.TTL.
	Interval time.Duration

	// PrimaryInterval ("primary-interval") is the same for the elected primary, at
	// most Interval. Default 250ms, or Interval if that is less.
	PrimaryInterval time.Duration

	// FastInterval ("fast-interval") is the same for all nodes of a cluster while
	// something is unsettled, at most PrimaryInterval. Default 100ms, or
	// PrimaryInterval if that is less.
	FastInterval time.Duration

	// Timeout ("timeout") bounds a whole poll. Default 3s.
	Timeout time.Duration

	// Fall ("fall") is how many polls in a row must say that the primary has lost its
	// lock, or that nothing listens, before it is believed; at least 1. Default 3.
	Fall int
}

func (b *Backend) read(t *table) {
	b.readKeys(t)
	t.rejectUnknown()
}

// readKeys reads what t, which is [backend] or a [[node]], gives.
func (b *Backend) readKeys(t *table) {
	t.choice("scheme", &b.Scheme, "http", "https")
	t.authorities("cafile", &b.CAfile)
	t.keyPair(&b.Certfile, &b.Keyfile)
	t.host("server-name", &b.ServerName)
	b.readVerify(t)
	t.duration("interval", &b.Interval, 1)
	t.duration("primary-interval", &b.PrimaryInterval, 1)
	t.duration("fast-interval", &b.FastInterval, 1)
	t.capDuration("primary-interval", &b.PrimaryInterval, "interval", b.Interval)
	t.capDuration("fast-interval", &b.FastInterval, "primary-interval", b.PrimaryInterval)
	t.duration("timeout", &b.Timeout, 1)
	t.integer("fall", &b.Fall, 1, math.MaxInt32)
}

// readVerify reads verify, and insecure if it does not contradict.
func (b *Backend) readVerify(t *table) {
	t.choice("verify", &b.Verify, "full", "ca", "none")
	insecure := b.Verify == "none"
	t.boolean("insecure", &insecure)
	switch {
	case insecure == (b.Verify == "none"):
	case t.has("verify"):
		if t.isValid("verify") {
			t.reject("insecure", fmt.Sprintf("want verify alone, which is %q", b.Verify))
		}
	case insecure:
		b.Verify = "none"
	default:
		b.Verify = "full"
	}
}

// leastTTL is the shortest cache.ttl for which a node that is well does not become stale
// between polls: one poll may be lost, and the next one may take as long as a poll takes.
// That is the timeout, but at most another interval: a Patroni which answers later than
// that cannot be polled so often.
func (b *Backend) leastTTL() time.Duration {
	if b.Interval > math.MaxInt64/3 {
		return math.MaxInt64
	}
	return 2*b.Interval + b.pollTime()
}

func (b *Backend) pollTime() time.Duration { return min(b.Timeout, b.Interval) }

// ttlSum shows how leastTTL comes about.
func (b *Backend) ttlSum() string {
	return fmt.Sprintf("at least %s (2 * interval %s + %s for a poll)", b.leastTTL(), b.Interval, b.pollTime())
}
