package node

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
)

// Question is the meaning of a check, which may have several names.
type Question uint8

// The questions of Patroni's REST API (api.py:322-534).
const (
	AskPrimary Question = iota
	AskLeader
	AskStandbyLeader
	AskReplica
	AskReadOnly
	AskSync
	AskAsync
	AskQuorum
	AskReadOnlySync
	AskReadOnlyQuorum
	AskHealth
	AskLiveness
	AskReadiness

	// Questions is how many questions there are.
	Questions = int(AskReadiness) + 1
)

// checkNames has every name of a check, in the order of messages and documents.
var checkNames = []struct {
	name string
	ask  Question
}{
	{"primary", AskPrimary}, {"master", AskPrimary}, {"read-write", AskPrimary},
	{"leader", AskLeader}, {"standby-leader", AskStandbyLeader}, {"standby_leader", AskStandbyLeader},
	{"replica", AskReplica}, {"read-only", AskReadOnly},
	{"sync", AskSync}, {"synchronous", AskSync}, {"async", AskAsync}, {"asynchronous", AskAsync}, {"quorum", AskQuorum},
	{"read-only-sync", AskReadOnlySync}, {"read-only-synchronous", AskReadOnlySync}, {"read-only-quorum", AskReadOnlyQuorum},
	{"health", AskHealth}, {"liveness", AskLiveness}, {"readiness", AskReadiness},
}

var checksByName = func() map[string]Check {
	m := make(map[string]Check, len(checkNames))
	for _, c := range checkNames {
		m[c.name] = Check{Name: c.name, Ask: c.ask, Lag: noLimit, plain: true}
	}
	return m
}()

// CheckNames lists every name of a check, in a fixed order.
func CheckNames() []string {
	names := make([]string, len(checkNames))
	for i, c := range checkNames {
		names[i] = c.name
	}
	return names
}

const noLimit = -1

// Check is a question about a node with its parameters.
type Check struct {
	Name             string // as it was written: "master" stays "master"
	Ask              Question
	Lag              int64  // the limit in bytes, -1 = none
	ReplicationState string // "" = any
	Received         bool   // mode=write: readiness counts received, not replayed bytes
	Tags             []Tag

	plain bool // without any parameter, so that its verdicts can be prepared
}

// Tag is one tag_NAME=value that a node must have.
type Tag struct{ Name, Value string }

// Writes reports whether the check asks for the one leader. Other checks ask for a
// node to read from, or for its health.
func (c Check) Writes() bool { return c.Ask <= AskStandbyLeader }

// UnknownCheckError says that no check has the name.
type UnknownCheckError struct{ Name string }

func (e *UnknownCheckError) Error() string {
	return fmt.Sprintf("unknown check %q, want one of %s", e.Name, strings.Join(CheckNames(), ", "))
}

// ParameterError says why a parameter is invalid, and what would be valid.
type ParameterError struct{ Name, Problem string }

func (e *ParameterError) Error() string { return "parameter " + printable(e.Name) + ": " + e.Problem }

// ParseCheck parses a check's name and its parameters (a raw query such as
// "lag=16MB&tag_zone=a"). An unknown name gives an [*UnknownCheckError], a wrong
// parameter a [*ParameterError]. Patroni treats an unreadable lag= as no limit and
// ignores unknown parameters (api.py:332). Here both are errors, because a limit that
// silently does nothing would send readers to a node that is hours behind.
func ParseCheck(name, query string) (Check, error) {
	c, ok := checksByName[name]
	if !ok {
		return Check{}, &UnknownCheckError{name}
	}
	if query == "" {
		return c, nil
	}
	if name, value, ok := strings.Cut(query, "="); ok && !strings.ContainsAny(query, "&;%+") { // the usual query of a load balancer needs no map
		if err := c.set(name, value); err != nil {
			return Check{}, err
		}
		return c, nil
	}
	values, err := url.ParseQuery(query)
	if err != nil {
		return Check{}, &ParameterError{"query", fmt.Sprintf("want name=value&name=value (got %q)", query)}
	}
	for _, name := range slices.Sorted(maps.Keys(values)) { // so that the error is always about the same mistake
		if len(values[name]) > 1 {
			return Check{}, &ParameterError{name, "want it once"}
		}
		if err := c.set(name, values[name][0]); err != nil {
			return Check{}, err
		}
	}
	return c, nil
}

// set sets a parameter.
func (c *Check) set(name, value string) (err error) {
	c.plain = false
	tag, isTag := strings.CutPrefix(name, "tag_")
	switch {
	case name == "lag":
		if c.Lag, err = ParseSize(value); err != nil {
			return &ParameterError{name, err.Error()}
		}
	case name == "replication_state":
		if value == "" {
			return &ParameterError{name, `want a state such as "streaming" (got "")`}
		}
		c.ReplicationState = value
	case name == "mode" && (value == "apply" || value == "write"):
		c.Received = value == "write"
	case name == "mode":
		return &ParameterError{name, fmt.Sprintf(`want "apply" or "write" (got %q)`, value)}
	case isTag && tag != "":
		c.Tags = append(c.Tags, Tag{tag, value})
	default:
		return &ParameterError{fmt.Sprintf("%q", name), "unknown, want lag, replication_state, mode or tag_NAME"}
	}
	return nil
}

// Plain reports whether the check has no parameter, so that its verdict depends on the
// node alone.
func (c Check) Plain() bool { return c.plain }

// PlainCheck returns the check for a question, without parameters, under its first
// name.
func PlainCheck(q Question) Check {
	for _, c := range checkNames {
		if c.ask == q {
			return checksByName[c.name]
		}
	}
	panic(fmt.Sprintf("node: question %d has no name", q))
}
