package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/node"
)

// identity is which PostgreSQL cluster a group watches, by its system identifier, and
// what was learned about other identifiers. The group's mu guards it.
//
// The configured scope and the configured name of a member are never negotiable: a node
// that reports others is refused, whatever else is so. The identifier is negotiable,
// because it may change for good: pg_upgrade (the primary first, its replicas are rebuilt
// for hours), a new bootstrap, a cluster that is rebuilt under other names. The first
// answer of a listed node pins it. The rule of [group.adopt]:
//
//  1. While a listed node with the pinned identifier leads, nothing replaces it. An
//     identifier that was seen beside it is strange from then on: the successor of a
//     cluster begins when the cluster has ended, so what exists beside it is another one.
//     An identifier with which a node of this cluster led is never strange.
//  2. While none leads, a listed node that holds the lock wins over all that hold none: its
//     identifier is adopted, if it is not strange. Where no scope is configured, its scope
//     must be that of the last leader, too. If nodes with several other identifiers hold a
//     lock, none of them is adopted.
//  3. Else an identifier of more than half of all listed nodes is adopted, even a strange
//     one: one wrong address that answered first must not keep the cluster out.
//  4. The operator's reload accepts, while no node leads, what 1 and 2 have excluded.
//
// Nodes that do not answer, and unlisted ones, have no say in any of this.
//
// What has to be shown, and is, by TestIdentity for each case and by the walk of
// TestWhateverHappensThereIsOnePrimaryAtMost for all that may happen together:
//
//   - At most one node passes: all that are elected have the one pinned identifier.
//   - A node with another scope or name than configured passes nothing.
//   - The pinned identifier does not change in a moment in which a node leads with it.
//   - A strange identifier is pinned only by a majority or after a reload.
//   - Nobody is locked out for good: a node with the right scope and name that alone holds
//     the lock passes within seconds, if its identifier is strange after a reload.
//
// What cannot be seen: a stranger with the same scope and the member's own name that first
// answers while nothing leads. Its claim is like that of the cluster's new primary.
type identity struct {
	systemID string         // pinned; "" = none yet
	ledScope string         // of the last leader; "" while unknown
	own      []string       // the latest identifiers with which a node led
	changed  IdentityChange // the latest change that is not over
}

// maxIdentifiers bounds how many identifiers are remembered, of the cluster and of each
// node: a node that invents them must not use up the memory.
const maxIdentifiers = 8

// IdentityChange is a change of a cluster's system identifier that not all of its nodes
// have followed and no operator has acknowledged. The zero value is none.
type IdentityChange struct {
	From, To string
	By       string // the node that leads with To; "" = a majority has it
	At       time.Time
}

// reason says in words what has changed.
func (c *IdentityChange) reason() string {
	by := "more than half of the nodes have it"
	if c.By != "" {
		by = c.By + " leads with it"
	}
	return fmt.Sprintf("the system identifier changed from %s to %s: %s", c.From, c.To, by)
}

// misplaced says why a document is not that of the configured member of the configured
// scope; "" = it is.
func (g *group) misplaced(n *tracked, d *node.Document) string {
	switch {
	case g.scope != "" && d.Scope != "" && d.Scope != g.scope:
		return fmt.Sprintf("scope is %q, want %q", d.Scope, g.scope)
	case n.cfg.Member != "" && d.Name != "" && d.Name != n.cfg.Member:
		return fmt.Sprintf("member's name is %q, want %q", d.Name, n.cfg.Member)
	}
	return ""
}

// identify says why the node does not belong to this cluster, "" if it does.
func (g *group) identify(n *tracked, d *node.Document) string {
	if why := g.misplaced(n, d); why != "" {
		return why
	}
	if n.cfg.Unlisted.IsZero() {
		g.systemID = cmp.Or(g.systemID, d.SystemID)
	}
	if g.systemID != "" && d.SystemID != "" && d.SystemID != g.systemID {
		return fmt.Sprintf("system identifier is %s, want %s", d.SystemID, g.systemID)
	}
	return ""
}

// adopt replaces the pinned identifier when the rule of [identity] says so.
func (g *group) adopt(now time.Time) {
	g.endChange(now)
	if !slices.ContainsFunc(g.nodes, func(n *tracked) bool { return n.refused != "" }) {
		return
	}
	if leader := g.pinnedLeader(now); leader != nil {
		g.noteStrangers(leader)
		return
	}
	var by *tracked
	several := false
	for _, n := range g.nodes {
		if !g.otherIdentity(n, now) || !n.entry.Value.Claims() || g.whyNotAdopted(n) != "" {
			continue
		}
		several = several || by != nil && by.entry.Value.Document.SystemID != n.entry.Value.Document.SystemID
		by = n
	}
	switch {
	case by != nil && !several:
		g.pin(by.entry.Value.Document.SystemID, by.name, now)
	default:
		if id := g.majority(now); id != "" {
			g.pin(id, "", now)
		}
	}
}

// pinnedLeader returns a listed node that leads with the pinned identifier, nil if none
// does.
func (g *group) pinnedLeader(now time.Time) *tracked {
	for _, n := range g.nodes {
		if n.cfg.Unlisted.IsZero() && n.refused == "" && !n.beaten && n.entry.Fresh(now) && (n.entry.Value.Claims() || n.held()) {
			return n
		}
	}
	return nil
}

// noteStrangers remembers the identifiers that were heard of before a poll began by which
// the leader says that it leads.
func (g *group) noteStrangers(leader *tracked) {
	for _, n := range g.nodes {
		id := n.entry.Value.Document.SystemID
		if n.refused != "" && n.cfg.Unlisted.IsZero() && id != "" && id != g.systemID &&
			leader.entry.Began.After(n.heard) && !slices.Contains(g.own, id) {
			n.strange = remember(n.strange, id)
		}
	}
}

// otherIdentity reports whether a listed node answers with another identifier than the
// pinned one, and is otherwise right.
func (g *group) otherIdentity(n *tracked, now time.Time) bool {
	d := &n.entry.Value.Document
	return n.cfg.Unlisted.IsZero() && n.refused != "" && n.entry.Fresh(now) && d.SystemID != "" && d.SystemID != g.systemID && g.misplaced(n, d) == ""
}

// whyNotAdopted says why the claim of a node with another identifier is not enough; "" =
// it is.
func (g *group) whyNotAdopted(n *tracked) string {
	d := &n.entry.Value.Document
	strange := func(n *tracked) bool { return slices.Contains(n.strange, d.SystemID) }
	switch {
	case slices.ContainsFunc(g.nodes, strange):
		return "which was seen while " + g.systemID + " led"
	case g.scope == "" && g.ledScope != "" && d.Scope != "" && d.Scope != g.ledScope:
		return fmt.Sprintf("and scope %q, where %q led", d.Scope, g.ledScope)
	}
	return ""
}

// majority returns the identifier that more than half of all listed nodes report, if it
// is another one than the pinned one; else "".
func (g *group) majority(now time.Time) string {
	votes, listed := make(map[string]int), 0
	for _, n := range g.nodes {
		if n.cfg.Unlisted.IsZero() {
			listed++
		}
		if g.otherIdentity(n, now) {
			votes[n.entry.Value.Document.SystemID]++
		}
	}
	for id, n := range votes {
		if n*2 > listed {
			return id
		}
	}
	return ""
}

// pin replaces the pinned identifier, because the node named by leads with another one.
func (g *group) pin(id, by string, now time.Time) {
	if slices.Contains(g.own, g.systemID) {
		g.changed = IdentityChange{From: g.systemID, To: id, By: by, At: now}
	}
	g.systemID = id
	for _, n := range g.nodes {
		if n.entry.Known {
			n.refused = cmp.Or(g.identify(n, &n.entry.Value.Document), g.twin(n, &n.entry.Value))
		}
	}
}

// noteLeader records the identity of an elected node as this cluster's own.
func (g *group) noteLeader(d *node.Document) {
	g.ledScope = cmp.Or(d.Scope, g.ledScope)
	if g.systemID != "" && d.SystemID == g.systemID && !slices.Contains(g.own, g.systemID) {
		g.own = remember(g.own, g.systemID)
	}
}

// endChange ends the latest change when all listed nodes have followed.
func (g *group) endChange(now time.Time) {
	if g.changed != (IdentityChange{}) && !slices.ContainsFunc(g.nodes, func(n *tracked) bool {
		return n.cfg.Unlisted.IsZero() && !(n.entry.Fresh(now) && n.refused == "" && n.entry.Value.Document.SystemID == g.systemID)
	}) {
		g.changed = IdentityChange{}
	}
}

// whyRefused says why no node leads although a node with another identifier claims to;
// "" if none does.
func (g *group) whyRefused(now time.Time) string {
	for _, n := range g.nodes {
		if !g.otherIdentity(n, now) || !n.entry.Value.Claims() {
			continue
		}
		why := cmp.Or(g.whyNotAdopted(n), "as does another node with another one")
		return fmt.Sprintf("%s claims with system identifier %s, %s: reload the configuration to accept it", n.name, n.entry.Value.Document.SystemID, why)
	}
	return ""
}

// Acknowledge accepts the nodes that are watched as they are, on behalf of an operator: a
// change of a cluster's identity is no longer warned of, and where no node leads, a node
// that claims with another identity may from now on.
func (s *Supervisor) Acknowledge() {
	for _, r := range s.watched.Load().rosters {
		r.group.acknowledge()
	}
}

func (g *group) acknowledge() {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := time.Now()
	refused := slices.ContainsFunc(g.nodes, func(n *tracked) bool { return n.refused != "" })
	if g.changed == (IdentityChange{}) && !refused {
		return // usually, for each of many clusters
	}
	g.changed = IdentityChange{}
	if g.pinnedLeader(now) == nil {
		g.ledScope = ""
		for _, n := range g.nodes {
			n.strange = nil
		}
	}
	g.adopt(now)
	old := g.view.Load()
	d := g.elect(now)
	g.endLeaving(now)
	view := g.render(now, nil, d)
	g.view.Store(view)
	g.pace(now, d, d.winner != old.Leader)
	g.subs.publish(diff(old, view))
}

// remember adds an identifier to the latest ones.
func remember(ids []string, id string) []string {
	if slices.Contains(ids, id) {
		return ids
	}
	return append(ids[max(0, len(ids)-maxIdentifiers+1):len(ids):len(ids)], id)
}

// scopeOf is the scope to show: the configured one, else that of the leader, else that
// of any node.
func (g *group) scopeOf() string {
	scope := cmp.Or(g.scope, g.ledScope)
	for _, n := range g.nodes {
		if scope != "" {
			break
		}
		if n.entry.Known && n.refused == "" {
			scope = n.entry.Value.Document.Scope
		}
	}
	return scope
}

// mixedScopes lists the scopes of the nodes that answer and belong to the cluster, with
// their nodes; "" if there are not several. That is right for a primary cluster and its
// standby cluster, and a mistake elsewhere.
func (v *View) mixedScopes(now time.Time) string {
	first, mixed := "", false
	scopeOf := func(m *Member) string {
		if m.Refused != "" || !m.Entry.Fresh(now) {
			return ""
		}
		return m.Entry.Value.Document.Scope
	}
	for _, m := range v.Members {
		s := scopeOf(m)
		first = cmp.Or(first, s)
		mixed = mixed || s != "" && s != first
	}
	if !mixed { // usually, and this is asked for each poll
		return ""
	}
	scopes := make(map[string][]string)
	for _, m := range v.Members {
		if s := scopeOf(m); s != "" {
			scopes[s] = append(scopes[s], m.Name)
		}
	}
	var all []string
	for s, nodes := range scopes {
		all = append(all, fmt.Sprintf("%s (%s)", strconv.Quote(s), strings.Join(nodes, ", ")))
	}
	slices.Sort(all)
	return strings.Join(all, " and ")
}

// unfollowed lists the listed nodes that do not have the cluster's new identifier.
func (v *View) unfollowed(now time.Time) string {
	var names []string
	for _, m := range v.Members {
		if m.Unlisted.IsZero() && !(m.Entry.Fresh(now) && m.Refused == "" && m.Entry.Value.Document.SystemID == v.SystemID) {
			names = append(names, m.Name)
		}
	}
	return strings.Join(names, ", ")
}
