package client

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"patroniglue/httpapi"
)

// AnnounceLeaving tells the daemon that a node is about to stop; the announcement
// holds for d at most. The cluster may be "" where the node's name is unique. The
// answer says whether the announcement holds, and why it does or does not.
func (c *Client) AnnounceLeaving(ctx context.Context, cluster, node string, d time.Duration) (httpapi.Leaving, error) {
	return c.leaving(ctx, http.MethodPost, cluster, node, url.Values{"for": {d.String()}})
}

// CancelLeaving takes an announcement back.
func (c *Client) CancelLeaving(ctx context.Context, cluster, node string) (httpapi.Leaving, error) {
	return c.leaving(ctx, http.MethodDelete, cluster, node, nil)
}

func (c *Client) leaving(ctx context.Context, method, cluster, node string, query url.Values) (httpapi.Leaving, error) {
	if c.token == "" {
		return httpapi.Leaving{}, errors.New("want token-file in [frontend] of the configuration")
	}
	var l httpapi.Leaving
	q := question{method, nodePath(cluster, node) + "/leaving", query, true, maxAnswer}
	if err := c.ask(ctx, q, &l, func() bool { return l.Node != "" }); err != nil {
		return httpapi.Leaving{}, err
	}
	return l, nil
}
