package config

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/crypto/bcrypt"
)

// Operator is [operator]: an address of its own for everything that is not for load
// balancers. TLS versions and cipher suites are those of [frontend].
type Operator struct {
	// Listen ("listen") is a host:port or :port. Default "": [frontend] answers
	// everything.
	Listen string

	// Certfile and Keyfile ("certfile", "keyfile") are PEM files. Default "": those
	// of [frontend].
	Certfile, Keyfile string

	// ClientCAfile ("client-cafile") is as in [frontend], whose own is not used here.
	// Default "".
	ClientCAfile string

	// PasswordFile ("password-file") has a line of user:hash for each user, as Apache's
	// "htpasswd -B" writes it. Default "": no password is needed.
	PasswordFile string

	// Users are the bcrypt hashes in PasswordFile, by user; nil without it.
	Users map[string]string

	// Allow ("allow") is as in [frontend]. Default empty: as there.
	Allow []netip.Prefix
}

func (o *Operator) read(t *table) {
	t.listenAddress("listen", &o.Listen)
	t.keyPair(&o.Certfile, &o.Keyfile)
	t.authorities("client-cafile", &o.ClientCAfile)
	o.readUsers(t)
	t.networks("allow", &o.Allow)
	t.rejectUnknown()
}

func (o *Operator) readUsers(t *table) {
	t.text("password-file", &o.PasswordFile)
	content, ok := t.loadFile("password-file", o.PasswordFile)
	if !ok {
		return
	}
	var err error
	if o.Users, err = parsePasswords(string(content)); err != nil {
		t.reject("password-file", err.Error())
	}
}

// inheritFrom takes from [frontend] what [operator] does not give.
func (o *Operator) inheritFrom(f *Frontend) {
	if o.Listen == "" {
		return
	}
	if o.Certfile == "" {
		o.Certfile, o.Keyfile = f.Certfile, f.Keyfile
	}
	if len(o.Allow) == 0 {
		o.Allow = f.Allow
	}
}

// checkProtection refuses what would leave operators' requests more open than the
// file looks, and notes passwords that cross the network as plain text.
func (o *Operator) checkProtection(t *table, f *Frontend) {
	if o.Listen == "" {
		protected := o.Certfile != "" || o.ClientCAfile != "" || o.PasswordFile != "" || len(o.Allow) > 0
		if protected && t.isValid("listen") {
			t.reject("listen", `want an address such as "localhost:8010": without one the rest of [operator] protects nothing`)
		}
		return
	}
	switch {
	case o.ClientCAfile != "" && o.Certfile == "" && t.isValid("certfile"):
		t.reject("client-cafile", "want certfile and keyfile too: only TLS has client certificates")
	case f.ClientCAfile != "" && o.ClientCAfile == "" && o.PasswordFile == "" && t.isValid("client-cafile") && t.isValid("password-file"):
		t.reject("client-cafile", "want this or password-file: [frontend] asks for client certificates, [operator] would ask for nothing")
	}
	if host, _, _ := SplitAddress(o.Listen); o.PasswordFile != "" && o.Certfile == "" && !isLoopback(host) {
		t.addNote(t.pathOf("listen"), "passwords cross the network as plain text: want certfile and keyfile, or localhost behind a proxy with TLS")
	}
}

// isLoopback reports whether only this host can connect to host.
func isLoopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// maxCost bounds the cost of a bcrypt hash: each step doubles the time of a login, 14
// takes about a second.
const maxCost = 14

// parsePasswords reads lines of user:hash, as "htpasswd -B" writes them. Its error
// says what is wanted and on which line, but nothing of what that line has: it may be
// a secret.
func parsePasswords(text string) (map[string]string, error) {
	users, n := make(map[string]string), 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		cost, err := bcrypt.Cost([]byte(hash))
		switch {
		case !ok || user == "":
			return nil, fmt.Errorf("want lines of user:hash as htpasswd -B writes them, line %d is not one", n)
		case err != nil || len(hash) != 60:
			return nil, fmt.Errorf("want bcrypt hashes ($2y$...) as htpasswd -B writes them, line %d has none", n)
		case cost > maxCost:
			return nil, fmt.Errorf("want bcrypt hashes with a cost of at most %d, else each login takes seconds: line %d has %d", maxCost, n, cost)
		case users[user] != "":
			return nil, fmt.Errorf("want each user once, line %d repeats one", n)
		}
		users[user] = hash
	}
	if len(users) == 0 {
		return nil, errors.New("want a file with lines of user:hash, it has none")
	}
	return users, nil
}
