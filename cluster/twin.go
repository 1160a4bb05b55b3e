package cluster

import (
	"fmt"

	"patroniglue/node"
)

// twin says that n is the same member as a node before it, "" if it is not: names of
// DNS may lead to one address. As primary one member would be two that claim, and
// nobody would be elected. Patroni 3.2 and newer tell their name, which identify
// compares. Of others the address that answered counts, with PostgreSQL's start to the
// microsecond, because there may be several members behind one address.
func (g *group) twin(n *tracked, r *node.Report) string {
	d := &r.Document
	if !r.Peer.IsValid() || d.Name != "" || d.PostmasterStart == "" {
		return ""
	}
	for _, other := range g.nodes {
		if other == n {
			return ""
		}
		if o := &other.entry.Value; other.entry.Known && o.Peer == r.Peer && o.Document.Name == "" && o.Document.PostmasterStart == d.PostmasterStart {
			return fmt.Sprintf("%s answers for %s, too: want another url", r.Peer, other.name)
		}
	}
	return ""
}
