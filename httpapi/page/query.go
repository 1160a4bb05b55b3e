package page

// Query says which page is requested.
type Query struct {
	Cluster string // "" = the overview
	Base    string // the path from the page to /. All links are relative, for proxies that serve us below a path
	Live    string // the path from / to the page's stream
	Search  string // overview: part of the name of a cluster or node
	Trouble bool   // overview: only clusters where something is wrong
}
