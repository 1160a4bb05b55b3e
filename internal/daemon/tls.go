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
	allow                     string            // who may be dialled
}

// transport dials nobody but allow, where that is not empty.
func (p *plan) transport(n *config.Backend, allow []netip.Prefix, before *plan) (*node.Transport, backendTLS, error) {
	files := p.cfg.Files
	key := backendTLS{n.CAfile, n.Certfile, n.Keyfile, n.ServerName, n.Verify, p.contentsOf(n.CAfile, n.Certfile, n.Keyfile), fmt.Sprint(allow)}
	t := cmp.Or(p.transports[key], before.transports[key])
	if t == nil {
		t = node.NewTransport()
		if len(allow) > 0 {
			t.DialContext = (&net.Dialer{KeepAlive: -1, Control: discovery.DialOnly(allow)}).DialContext
		}
		t.TLSClientConfig = &tls.Config{ServerName: n.ServerName, InsecureSkipVerify: n.Verify == "none"}
		t.AnyName = n.Verify == "ca"
		if n.CAfile != "" {
			pool, err := authorities(files, n.CAfile)
			if err != nil {
				return nil, key, err
			}
			t.TLSClientConfig.RootCAs = pool
		}
		if n.Certfile != "" {
			pair, err := tls.X509KeyPair(files[n.Certfile], files[n.Keyfile])
			if err != nil {
				return nil, key, fmt.Errorf("reading the client certificate: %w", err)
			}
			t.TLSClientConfig.Certificates = []tls.Certificate{pair}
		}
	}
	p.transports[key] = t
	return t, key, nil
}

func (p *plan) contentsOf(names ...string) (sum [sha256.Size]byte) {
	key := [3]string(names)
	if sum, ok := p.sums[key]; ok {
		return sum
	}
	h := sha256.New()
	for _, name := range names {
		fmt.Fprintf(h, "%d\n%s", len(p.cfg.Files[name]), p.cfg.Files[name])
	}
	h.Sum(sum[:0])
	p.sums[key] = sum
	return sum
}

// serverTLS is nil where no certificate is configured.
func serverTLS(cfg *config.Config, of, certfile, keyfile, clientCAfile string) (*tls.Config, error) {
	if certfile == "" {
		return nil, nil
	}
	pair, err := tls.X509KeyPair(cfg.Files[certfile], cfg.Files[keyfile])
	if err != nil {
		return nil, fmt.Errorf("reading the %s's certificate: %w", of, err)
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

// certificates are those that we show to others, as they are in use.
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

func authorities(files map[string][]byte, path string) (*x509.CertPool, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(files[path]) {
		return nil, fmt.Errorf("reading CA certificates: no PEM certificate in %s", path)
	}
	return pool, nil
}
