package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"patroniglue/cluster"
)

// HistoryQuery selects changes. Its values are not checked here: the daemon refuses wrong
// ones with a reason.
type HistoryQuery struct {
	Since   string // a time, or a duration back from now; "" = all that is kept
	Cluster string // "" = all
	Node    string // "" = all
	Limit   int    // the latest so many
}

func (q HistoryQuery) values() url.Values {
	values := url.Values{"limit": {strconv.Itoa(q.Limit)}}
	for name, value := range map[string]string{"since": q.Since, "cluster": q.Cluster, "node": q.Node} {
		if value != "" {
			values.Set(name, value)
		}
	}
	return values
}

// History asks what changed.
func (c *Client) History(ctx context.Context, q HistoryQuery) (cluster.History, error) {
	var h cluster.History
	// A patroniglue sends an empty list, not none, where nothing changed.
	ours := func() bool { return h.Changes != nil }
	most := maxAnswer + maxChange*int64(min(max(q.Limit, 0), 1_000_000)) // more is never kept
	err := c.ask(ctx, question{http.MethodGet, "/history", q.values(), c.onOperator, most}, &h, ours)
	if err != nil {
		return cluster.History{}, err
	}
	return h, nil
}
