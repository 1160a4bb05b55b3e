// Package discovery reads from etcd which members Patroni's clusters have, and
// who holds their leader keys.
//
// A [Watcher] keeps one connection and one watch stream to etcd, whatever the
// number of clusters, and publishes immutable snapshots of what is announced. A
// [Book] makes of them who is to be asked: it remembers who left.
//
// The DCS never decides a verdict. It says whom to ask, and when: a node whose
// key is gone is asked on, and a change of a leader key only makes its cluster be
// polled at once. So nothing that happens to etcd takes a node out of service
// that Patroni itself, asked by us, says is in service.
//
// Keys are those of Patroni with "etcd3:" (dcs/__init__.py and dcs/etcd3.py of
// 4.1.4; the same since 2.0): {namespace}{scope}/members/{name}, with a document
// that each member writes anew once per loop_wait, and {namespace}{scope}/leader
// with the name of who leads. Both have a lease of Patroni's ttl. With "etcd:"
// Patroni uses etcd's API of version 2, whose keys nobody sees here.
package discovery
