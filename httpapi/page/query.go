package page

// Query is which page is asked for.
type Query struct {
	Cluster string // "" = the overview
	Base    string // from the page to /: all links are relative, for proxies that serve us below a path
	Live    string // from / to its stream
	Search  string // of the overview: part of the name of a cluster or a node
	Trouble bool   // of the overview: only where something is wrong
}
