package daemon

import (
	"fmt"
	"reflect"
	"strconv"

	"patroniglue/discovery"
	"patroniglue/internal/config"
)

// rulesOf are the rules by which discovered members are polled.
func rulesOf(c *config.Discovery) *discovery.Rules {
	r := &discovery.Rules{Scopes: c.Scopes, Allow: c.Allow, Rewrite: c.Rewrite}
	if c.APIPort != 0 {
		r.APIPort = strconv.Itoa(c.APIPort)
	}
	return r
}

// discoverySettings say how etcd is read; nil = discovery is off. They are those of the
// plan before where that read it in the same way.
func discoverySettings(cfg *config.Config, before *plan) (*discovery.Settings, error) {
	d := &cfg.Discovery
	switch {
	case !d.On():
		return nil, nil
	case before.source != nil && sameSource(before.cfg, cfg):
		return before.source, nil
	}
	tls, err := clientTLS(cfg.Files, d.CAfile, d.Certfile, d.Keyfile)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	return &discovery.Settings{
		Endpoints: d.Etcd, Namespaces: d.Namespaces, Scopes: d.Scopes, Username: d.Username, Password: d.Password, TLS: tls,
	}, nil
}

// sameSource reports whether both configurations read the same of etcd in the same way.
func sameSource(a, b *config.Config) bool {
	source := func(c *config.Config) config.Discovery {
		d := c.Discovery
		d.Allow, d.APIPort, d.Rewrite, d.File = nil, 0, nil, "" // which are about what was read
		return d
	}
	d := &b.Discovery
	for _, file := range []string{d.CAfile, d.Certfile, d.Keyfile} {
		if string(a.Files[file]) != string(b.Files[file]) {
			return false
		}
	}
	return reflect.DeepEqual(source(a), source(b))
}
