package node

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Client polls one Patroni member.
//
// Patroni speaks HTTP/1.0 and has five workers, which wait for a client without any
// timeout (api.py:1521-1527). So each poll has one connection, which is never idle.
// Callers must make one call at a time, so that a member never has two.
type Client struct {
	url       *url.URL // without a trailing slash
	text      string   // url as text
	timeout   time.Duration
	transport *Transport
}

// Options say how to reach a member.
type Options struct {
	URL       *url.URL      // such as http://10.0.0.11:8008; a path is kept in front of /primary
	Timeout   time.Duration // of a whole poll, from looking up the name to the last byte
	Transport *Transport    // nil = NewTransport()
}

// NewClient makes a client. It opens no connection.
func NewClient(o Options) *Client {
	u := *o.URL
	u.Path, u.RawPath = strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(u.RawPath, "/")
	return &Client{url: &u, text: u.String(), timeout: o.Timeout, transport: cmp.Or(o.Transport, NewTransport())}
}

// URL is the member's address as configured, without a trailing slash.
func (c *Client) URL() string { return c.text }

// Timeout bounds a whole poll.
func (c *Client) Timeout() time.Duration { return c.timeout }

// Poll polls the member once by GET /primary: the status says whether it holds the
// leader lock, and the body says the rest. For a standby leader it also sends GET
// /leader, the only answer that shows that lock. Any error is a [*Failure]. Another
// supervisor may answer for the member; see [AgeHeader].
func (c *Client) Poll(ctx context.Context) (Report, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	var r Report
	began := time.Now()
	resp, err := c.health(ctx, "/primary")
	if err != nil {
		return Report{}, newFailure(err, c.timeout)
	}
	if r.Document, err = ParseDocument(resp.body); err != nil {
		if f := notBelieved(resp.body); f != nil {
			return Report{}, f
		}
		return Report{}, &Failure{Kind: KindDocument, Err: fmt.Errorf("status code %d with a bad document: %w", resp.status, err)}
	}
	r.Status, r.Peer, r.Clock, r.Raw, r.CertificateEnds = resp.status, resp.peer, resp.date, bytes.Clone(bytes.TrimSpace(resp.body)), resp.ends
	if r.Document.Role == RoleStandbyLeader {
		leader, err := c.health(ctx, "/leader")
		if err != nil {
			return Report{}, newFailure(err, c.timeout)
		}
		r.Leader = leader.status == http.StatusOK
		resp.age = max(resp.age, leader.age)
	}
	r.Took, r.Began = time.Since(began), began.Add(-resp.age)
	return r, nil
}

// health sends a health check, which Patroni answers with 200 or 503.
func (c *Client) health(ctx context.Context, path string) (response, error) {
	resp, err := c.get(ctx, path)
	if err == nil && resp.status != http.StatusOK && resp.status != http.StatusServiceUnavailable {
		return response{}, &Failure{Kind: KindStatus, Err: fmt.Errorf("status code %d, want 200 or 503", resp.status)}
	}
	return resp, err
}

// get sends GET for a path. It does not follow a redirect, which Patroni never sends.
func (c *Client) get(ctx context.Context, path string) (response, error) {
	u := *c.url
	u.Path += path
	if u.RawPath != "" {
		u.RawPath += path
	}
	resp, err := c.transport.get(ctx, &u, http.Header{"User-Agent": {"patroniglue"}, AgeHeader: {"ms"}})
	if err != nil {
		return response{}, err
	}
	if t, err := http.ParseTime(resp.header.Get("Date")); err == nil {
		resp.date = t
	}
	resp.age, err = ageOf(resp.header)
	return resp, err
}
