package daemon

import (
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"patroniglue/discovery"
	"patroniglue/httpapi"
	"patroniglue/internal/config"
	"patroniglue/node"
)

// backendTLS is all that makes one node's transport differ from another's.
type backendTLS struct {
	cafile, certfile, keyfile string
	serverName, verify        string
	contents                  [sha256.Size]byte // of the three files
	allow                     string            // networks that may be dialled, as text
}

// transport is how a node is polled: that of the plan before where nothing differs. It
// dials only addresses in allow, unless that is empty.
func (b *pollerBuilder) transport(n *config.Backend, allow []netip.Prefix) (*node.Transport, backendTLS, error) {
	key := backendTLS{n.CAfile, n.Certfile, n.Keyfile, n.ServerName, n.Verify, b.contentsOf(n.CAfile, n.Certfile, n.Keyfile), fmt.Sprint(allow)}
	t := cmp.Or(b.transports[key], b.before.transports[key])
	if t == nil {
		client, err := clientTLS(b.cfg.Files, n.CAfile, n.Certfile, n.Keyfile)
		if err != nil {
			return nil, key, err
		}
		client.ServerName, client.InsecureSkipVerify = n.ServerName, n.Verify == "none"
		t = node.NewTransport()
		t.TLSClientConfig, t.AnyName = client, n.Verify == "ca"
		if len(allow) > 0 {
			t.DialContext = (&net.Dialer{KeepAlive: -1, Control: discovery.DialOnly(allow)}).DialContext
		}
	}
	b.transports[key] = t
	return t, key, nil
}

// contentsOf is a sum of the contents of three files.
func (b *pollerBuilder) contentsOf(names ...string) (sum [sha256.Size]byte) {
	key := [3]string(names)
	if sum, ok := b.sums[key]; ok {
		return sum
	}
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d\n%s", len(b.cfg.Files[name]), b.cfg.Files[name])
	}
	h.Sum(sum[:0])
	b.sums[key] = sum
	return sum
}

// clientTLS is the TLS of a client: with the system's authorities unless cafile is given,
// and without a certificate unless certfile is given.
func clientTLS(files map[string][]byte, cafile, certfile, keyfile string) (*tls.Config, error) {
	c := &tls.Config{}
	if cafile != "" {
		pool, err := authorities(files, cafile)
		if err != nil {
			return nil, err
		}
		c.RootCAs = pool
	}
	if certfile != "" {
		pair, err := tls.X509KeyPair(files[certfile], files[keyfile])
		if err != nil {
			return nil, fmt.Errorf("reading the client certificate: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// serverTLS is the TLS of a listener; nil = no certificate is configured.
func serverTLS(cfg *config.Config, listener, certfile, keyfile, clientCAfile string) (*tls.Config, error) {
	if certfile == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(cfg.Files[certfile], cfg.Files[keyfile])
	if err != nil {
		return nil, fmt.Errorf("reading the %s's certificate: %w", listener, err)
	}
	c := &tls.Config{
		Certificates: []tls.Certificate{pair}, MinVersion: cfg.Frontend.TLSMinVersion, CipherSuites: cfg.Frontend.TLSCiphers,
		NextProtos: []string{"http/1.1"},
	}
	if clientCAfile != "" {
		if c.ClientCAs, err = authorities(cfg.Files, clientCAfile); err != nil {
			return nil, err
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// certificates are those that this program shows to others.
func (p *plan) certificates() []httpapi.Certificate {
	var out []httpapi.Certificate
	add := func(use, file string, c *tls.Config) {
		out = append(out, httpapi.Certificate{Use: use, File: file, Ends: c.Certificates[0].Leaf.NotAfter})
	}
	if p.http.TLS != nil {
		add("frontend", p.cfg.Frontend.Certfile, p.http.TLS)
	}
	if o := p.http.Operator; o != nil && o.TLS != nil && p.cfg.Operator.Certfile != p.cfg.Frontend.Certfile {
		add("operator", p.cfg.Operator.Certfile, o.TLS)
	}
	if p.source != nil && p.source.TLS != nil && len(p.source.TLS.Certificates) > 0 {
		add("discovery", p.cfg.Discovery.Certfile, p.source.TLS)
	}
	clients := make(map[string]*tls.Config)
	for key, t := range p.transports {
		if key.certfile != "" {
			clients[key.certfile] = t.TLSClientConfig
		}
	}
	for _, file := range slices.Sorted(maps.Keys(clients)) {
		add("client", file, clients[file])
	}
	return out
}

// authorities are the CA certificates in a file.
func authorities(files map[string][]byte, path string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files[path]) {
		return nil, fmt.Errorf("reading CA certificates: no PEM certificate in %s", path)
	}
	return pool, nil
}
