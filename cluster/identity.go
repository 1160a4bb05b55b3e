package cluster

import (
	"cmp"
	"fmt"
	"time"

	"patroniglue/node"
)

// identify says why the node does not belong to this cluster, "" if it does. The
// first good answer pins the cluster's scope and system identifier.
func (g *group) identify(n *tracked, d *node.Document) string {
	scope := cmp.Or(g.scope, g.seenScope)
	switch {
	case scope != "" && d.Scope != "" && d.Scope != scope:
		return fmt.Sprintf("scope is %q, want %q", d.Scope, scope)
	case n.cfg.Member != "" && d.Name != "" && d.Name != n.cfg.Member:
		return fmt.Sprintf("member's name is %q, want %q", d.Name, n.cfg.Member)
	case g.systemID != "" && d.SystemID != "" && d.SystemID != g.systemID:
		return fmt.Sprintf("system identifier is %s, want %s", d.SystemID, g.systemID)
	}
	g.seenScope = cmp.Or(g.seenScope, d.Scope)
	g.systemID = cmp.Or(g.systemID, d.SystemID)
	return ""
}

// repin replaces a pinned identity when more than half of all nodes agree on another
// one and no node leads. One wrong address that happened to answer first must not
// keep the whole cluster out, and pg_upgrade changes the system identifier for good.
// While a node of the pinned identity leads, no other node's answer replaces it.
func (g *group) repin(now time.Time) {
	type identity struct{ scope, systemID string }
	votes := make(map[identity]int)
	for _, n := range g.nodes {
		d := &n.entry.Value.Document
		if !n.entry.Fresh(now) || d.SystemID == "" || g.scope != "" && d.Scope != "" && d.Scope != g.scope {
			continue
		}
		id := identity{d.Scope, d.SystemID}
		if votes[id]++; votes[id]*2 <= len(g.nodes) {
			continue
		}
		g.seenScope, g.systemID = id.scope, id.systemID
		for _, n := range g.nodes {
			if n.entry.Known {
				n.refused = g.identify(n, &n.entry.Value.Document)
			}
		}
		return
	}
}
