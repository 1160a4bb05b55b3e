// Package node polls one Patroni member, parses its answer, and judges what that
// answer means for each check of Patroni's REST API.
//
// A poll returns a [Report] if Patroni answered 200 or 503 with a document, else a
// [Failure] that says why. A report alone cannot say whether this member is *the*
// primary, because that depends on the other members. So [Judge] also takes a
// [Standing]: what the whole cluster knows about this node.
//
// References such as api.py:322 are to Patroni 4.1.4's source.
package node
