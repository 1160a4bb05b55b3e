// Package httpapi answers over HTTP: checks of nodes and of whole clusters in
// the form of Patroni's own REST API, the health of everything, history and events,
// and, made by package page, the operator's page. It decides nothing: verdicts come
// from package cluster.
package httpapi
