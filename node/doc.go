// Package node knows one Patroni member: how to poll it, what it answered, and
// what that answer means for each check of Patroni's REST API.
//
// A poll either brings a [Report] (Patroni answered 200 or 503 with a document)
// or fails with a [Failure] that says why. A report alone cannot say whether
// this member is *the* primary: that needs the other members, so [Judge] takes a
// [Standing], what the whole cluster knows about this node, and decides the rest.
//
// References such as api.py:322 are to Patroni 4.1.4's source.
package node
