// Package cluster watches Patroni clusters: it polls every node, elects the one
// primary of each cluster, and publishes what it knows as immutable views, from
// which every question about a node is answered.
//
// One cluster is one group: its nodes' poll loops merge the outcome of each poll
// under the group's lock, and each merge publishes a new [View] behind an atomic
// pointer. Readers take no lock. Nothing here contacts PostgreSQL or changes
// anything in Patroni.
//
// References such as ha.py:351 are to Patroni 4.1.4's source.
package cluster
