package node

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"time"
)

const (
	maxHeaders = 16 << 10
	maxBody    = 1 << 20 // far above any document: that of a primary with a hundred replicas has some 20 kB
)

// Transport connects to members. Members with the same TLS settings share one.
//
// It does not use net/http's Transport, which dials on goroutines of its own. They
// continue without a bound when the poll is over, so that each poll of a member that
// hangs in the TLS handshake would leave a connection behind for good; and to end them
// takes a search among those of all members. Here the poll itself dials, and nothing
// outlives it.
type Transport struct {
	DialContext     func(ctx context.Context, network, addr string) (net.Conn, error)
	TLSClientConfig *tls.Config // nil = crypto/tls's defaults; its ServerName, if set, is for all members

	// AnyName accepts a certificate whatever names it has, as long as an authority of
	// TLSClientConfig signed it. It is libpq's sslmode verify-ca.
	AnyName bool
}

// NewTransport returns a Transport that dials by TCP. The caller may set its fields
// before the first use.
func NewTransport() *Transport {
	return &Transport{DialContext: (&net.Dialer{KeepAlive: -1}).DialContext}
}

type response struct {
	status int
	header http.Header
	date   time.Time      // of the Date header, by the member's clock; zero when not sent
	age    time.Duration  // of the AgeHeader; 0 when not sent
	ends   time.Time      // as certificateEnds
	peer   netip.AddrPort // zero = unknown
	body   []byte
}

// get sends one request, on a connection of its own, and returns when that is closed.
func (t *Transport) get(ctx context.Context, u *url.URL, header http.Header) (response, error) {
	req := &http.Request{Method: http.MethodGet, URL: u, Host: u.Host, Header: header, Close: true}
	var on step
	conn, ends, err := t.connect(on.tracing(ctx), u, &on)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	if err != nil {
		return response{}, on.explain(err)
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })() // interrupts reads and writes
	resp, err := exchange(conn, req)
	if err != nil && ctx.Err() != nil {
		err = ctx.Err()
	}
	resp.ends = ends
	if peer, ok := conn.RemoteAddr().(*net.TCPAddr); ok {
		resp.peer = peer.AddrPort()
	}
	return resp, err
}

// connect dials, and makes the TLS handshake for https. ends is as certificateEnds.
func (t *Transport) connect(ctx context.Context, u *url.URL, on *step) (conn net.Conn, ends time.Time, err error) {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err = t.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	on.connected = err == nil
	if err != nil || u.Scheme != "https" {
		return conn, time.Time{}, err
	}
	on.begins("in the TLS handshake")
	config := t.TLSClientConfig.Clone()
	if config == nil {
		config = new(tls.Config)
	}
	if config.ServerName == "" {
		config.ServerName = u.Hostname()
	}
	var chains [][]*x509.Certificate
	if t.AnyName {
		config.InsecureSkipVerify = true // of chain and name; the chain is verified here
		config.VerifyConnection = func(s tls.ConnectionState) (err error) {
			chains, err = verifyChain(config.RootCAs, s.PeerCertificates)
			return err
		}
	}
	secure := tls.Client(conn, config)
	if err := secure.HandshakeContext(ctx); err != nil {
		conn.Close()
		if record, ok := errors.AsType[tls.RecordHeaderError](err); ok && string(record.RecordHeader[:]) == "HTTP/" {
			err = http.ErrSchemeMismatch
		}
		return nil, time.Time{}, err
	}
	state := secure.ConnectionState()
	if t.AnyName {
		state.VerifiedChains = chains
	}
	return secure, certificateEnds(&state), nil
}

// exchange sends the request and reads the whole answer.
func exchange(conn net.Conn, req *http.Request) (response, error) {
	if err := req.Write(conn); err != nil {
		return response{}, err
	}
	limited := &io.LimitedReader{R: conn, N: maxHeaders}
	resp, err := http.ReadResponse(bufio.NewReaderSize(limited, 2<<10), req) // enough for most documents
	if err != nil {
		if limited.N <= 0 {
			err = &Failure{Kind: KindTooLarge, Err: errors.New("headers larger than 16 KiB")}
		}
		return response{}, err
	}
	defer resp.Body.Close()
	limited.N = maxBody + 64<<10 // more than maxBody, for the framing of chunks
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if len(body) > maxBody || limited.N <= 0 {
		err = &Failure{Kind: KindTooLarge, Err: errors.New("answer larger than 1 MiB")}
	}
	if err != nil {
		return response{}, err
	}
	return response{status: resp.StatusCode, header: resp.Header, body: body}, nil
}
