// Package discovery reads from etcd which members Patroni's clusters have, and
// which of them hold the leader keys.
//
// A [Watcher] has one connection and one watch stream to etcd, whatever the number
// of clusters, and publishes immutable snapshots of the members that are listed. A
// [Book] turns them into the members to poll, and remembers those that are no longer
// listed.
//
// The DCS never decides a verdict. It only says which members to poll, and when: a
// node whose key is gone is still polled, and a change of a leader key only makes its
// cluster be polled at once. So nothing that happens to etcd takes a node out of
// service whose Patroni answers that it is in service.
//
// The keys are those of Patroni with "etcd3:" (dcs/__init__.py and dcs/etcd3.py of
// 4.1.4; the same since 2.0): {namespace}{scope}/members/{name}, with a document
// that each member rewrites once per loop_wait, and {namespace}{scope}/leader with
// the leader's name. Both have a lease of Patroni's ttl. With "etcd:" Patroni uses
// etcd's API of version 2, whose keys are not visible here.
package discovery
