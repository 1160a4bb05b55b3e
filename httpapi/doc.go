// Package httpapi answers over HTTP: checks of nodes and of whole clusters in
// the shape of Patroni's own REST API, the central health endpoint, and the
// operator's page. It decides nothing: verdicts come from package cluster.
package httpapi
