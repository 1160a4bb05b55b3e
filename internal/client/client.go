// Package client asks the daemon that runs with the same configuration.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"

	"patroniglue/internal/config"
)

// maxAnswer is how much of an answer is read, in bytes, and maxChange how much more for
// each change of a history: most have a third of that.
const (
	maxAnswer = 8 << 20
	maxChange = 1 << 10
)

// Client asks one daemon. It is safe for concurrent use.
type Client struct {
	cfg        *config.Config
	base       string // scheme://host:port
	token      string // opens announcements and the operator's listener; "" = none is configured
	onOperator bool   // base is the operator's listener
	http       *http.Client
}

// New returns a client for the daemon that runs with cfg. It asks on the operator's
// listener where there is one, and trusts only the certificate that cfg names there,
// as it is now.
func New(cfg *config.Config) (*Client, error) {
	c := &Client{cfg: cfg, token: cfg.Frontend.Token}
	host, port := cfg.Frontend.Host, cfg.Frontend.Port
	certfile, keyfile := cfg.Frontend.Certfile, cfg.Frontend.Keyfile
	if o := &cfg.Operator; o.Listen != "" {
		c.onOperator = true
		host, port, _ = config.SplitAddress(o.Listen) // valid, or there would be no cfg
		certfile, keyfile = o.Certfile, o.Keyfile
		if o.Users != nil && c.token == "" {
			return nil, errors.New("[operator] wants a password, and the configuration has only its hash: want token-file in [frontend]")
		}
	}
	if ip := net.ParseIP(host); host == "" || host == "*" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	transport := new(http.Transport) // without a proxy, whatever the environment says
	c.base = "http://" + addr
	if certfile != "" {
		var err error
		if transport.TLSClientConfig, err = pinned(&cfg.Frontend, certfile, keyfile); err != nil {
			return nil, fmt.Errorf("reading the certificate of %s: %w", addr, err)
		}
		c.base = "https://" + addr
	}
	c.http = &http.Client{
		Transport: transport,
		// A redirect might lead the token elsewhere, and no daemon of ours sends one.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// Close closes the connections that no question uses.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// question is one request.
type question struct {
	method, path string
	query        url.Values
	withToken    bool  // the daemon refuses it without
	most         int64 // bytes of the answer
}

// get asks a question that changes nothing.
func (c *Client) get(ctx context.Context, path string, query url.Values, into any, ours func() bool) error {
	return c.ask(ctx, question{http.MethodGet, path, query, c.onOperator, maxAnswer}, into, ours)
}

// ask decodes the answer to a question, of which ours then says whether it is one of a
// patroniglue. The error is an [*UnansweredError], a [*RefusedError] or a [*StrangerError].
func (c *Client) ask(ctx context.Context, q question, into any, ours func() bool) error {
	address := c.base + q.path
	if len(q.query) > 0 {
		address += "?" + q.query.Encode()
	}
	status, body, err := c.send(ctx, q, address)
	if err != nil {
		return &UnansweredError{err}
	}
	if int64(len(body)) > q.most {
		return &StrangerError{address, status, fmt.Errorf("more than %d MiB", q.most>>20)}
	}
	if status != http.StatusOK {
		var refusal struct {
			Error string `json:"error"`
		}
		if json.Unmarshal(body, &refusal) == nil && refusal.Error != "" {
			return &RefusedError{address, status, refusal.Error}
		}
		if status != http.StatusServiceUnavailable { // so a health or a check is answered where something is wrong
			return &StrangerError{address, status, nil}
		}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return &StrangerError{address, status, err}
	}
	if !ours() {
		return &StrangerError{address, status, nil}
	}
	return nil
}

// send returns an answer as it came; of one that is too long, one byte too many.
func (c *Client) send(ctx context.Context, q question, address string) (status int, body []byte, err error) {
	req, err := http.NewRequestWithContext(ctx, q.method, address, nil)
	if err != nil {
		return 0, nil, err
	}
	if q.withToken && c.token != "" {
		req.Header.Set("Authorization", "Bearer "+c.token)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(io.LimitReader(resp.Body, q.most+1)); err != nil {
		return 0, nil, fmt.Errorf("reading the answer of %s: %w", address, err)
	}
	return resp.StatusCode, body, nil
}

// nodePath is the route of a node. Without a cluster its name has to be unique.
func nodePath(cluster, node string) string {
	path := "/node/" + url.PathEscape(node)
	if cluster != "" {
		path = "/cluster/" + url.PathEscape(cluster) + path
	}
	return path
}
