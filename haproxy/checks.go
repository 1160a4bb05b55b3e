package haproxy

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"patroniglue/internal/config"
)

// supervisorHost is where HAProxy reaches the supervisor that listens on host. Where host
// is only local, or stands for all addresses, HAProxy is on the same machine.
func supervisorHost(host, override string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case override == "localhost":
		return "127.0.0.1"
	case override != "":
		return override
	case host == "" || host == "localhost" || err == nil && ip.IsUnspecified():
		return "127.0.0.1"
	}
	return host
}

// sharedAgent are the options for the agent port that all servers share; with dedicated
// ports there are none.
func (b *builder) sharedAgent() string {
	if b.o.Dedicated {
		return ""
	}
	listen := b.cfg.Agent.Listen
	host, port, err := config.SplitAddress(listen)
	switch {
	case listen == "":
		b.fail(errors.New(`agent.listen: want the shared port, such as ":5555", or -dedicated for the ports of each node (got nothing)`))
	case err != nil || port == 0:
		b.fail(fmt.Errorf("agent.listen: want a port from 1 to 65535, HAProxy has to know it (got %q)", listen))
	}
	return b.agentAddress(host, port)
}

func (b *builder) agentAddress(host string, port int) string {
	return fmt.Sprintf(" agent-addr %s agent-port %d", b.host(supervisorHost(host, b.o.Supervisor)), port)
}

// frontendCheck are the options with which HAProxy checks all servers at the supervisor;
// there are none where it asks each Patroni.
func (b *builder) frontendCheck() string {
	if b.o.Direct {
		return ""
	}
	frontend := &b.cfg.Frontend
	if frontend.Port == 0 {
		b.fail(errors.New("frontend.port: want 1 to 65535, HAProxy has to know it (got 0)"))
	}
	host := supervisorHost(frontend.Host, b.o.Supervisor)
	check := fmt.Sprintf(" addr %s port %d", b.host(host), frontend.Port)
	if frontend.Certfile == "" {
		return check
	}
	if frontend.ClientCAfile != "" && b.o.CertFile == "" {
		b.fail(errors.New("frontend.client-cafile: want -crt FILE, a client certificate for HAProxy's checks"))
	}
	verified := certificate{ca: b.o.CAFile, name: host}
	return check + b.checkSSL(verified, b.o.CAFile == "")
}

// patroniCheck are the options with which HAProxy checks a node at its Patroni.
func (b *builder) patroniCheck(n config.Node) (string, error) {
	host, port := n.URL.Hostname(), cmp.Or(n.URL.Port(), map[string]string{"http": "80", "https": "443"}[n.URL.Scheme])
	number, err := net.LookupPort("tcp", port)
	if err != nil {
		return "", fmt.Errorf("node %q: url: %w", n.Name, err)
	}
	check := fmt.Sprintf(" addr %s port %d", b.host(host), number)
	if n.URL.Scheme != "https" {
		return check, nil
	}
	if n.Certfile != "" && b.o.CertFile == "" {
		// Patroni may not require it, but a check that is refused looks like a dead node.
		return "", fmt.Errorf("node %q: certfile: want -crt FILE, as HAProxy takes certificate and key from one file", n.Name)
	}
	wanted := certificate{ca: cmp.Or(b.o.CAFile, n.CAfile, "@system-ca"), name: cmp.Or(n.ServerName, host), sni: n.ServerName}
	if n.Verify == "ca" {
		wanted.name = ""
	}
	return check + b.checkSSL(wanted, n.Verify == "none" && b.o.CAFile == ""), nil
}

// certificate is what a server's certificate must be.
type certificate struct {
	ca   string // file of the authorities
	name string // "" = any
	sni  string // the name that the server is told; "" = none
}

// checkSSL are the options of a check by https.
func (b *builder) checkSSL(wanted certificate, unverified bool) string {
	options := " check-ssl verify required ca-file " + word(wanted.ca)
	if unverified {
		b.file.Unverified = true
		options = " check-ssl verify none"
	} else if isName(wanted.name) {
		options += " verifyhost " + word(wanted.name) // HAProxy compares names only, never IP addresses
	}
	if isName(wanted.sni) {
		options += " check-sni " + word(wanted.sni)
	}
	if b.o.CertFile != "" {
		options += " crt " + word(b.o.CertFile)
	}
	return options
}

// isName reports whether host is neither an IP address nor "".
func isName(host string) bool {
	_, err := netip.ParseAddr(host)
	return host != "" && err != nil
}
