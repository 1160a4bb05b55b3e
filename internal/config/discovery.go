package config

import (
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// discoveryConfig says where to read which members there are. They are polled as
// [backend] says.
type Discovery struct {
	// Etcd ("etcd") are URLs of the members of one etcd, http or https, with a port.
	// Default empty: nothing is discovered.
	Etcd []string

	// Namespaces ("namespace", a string or a list of them) are Patroni's, with one
	// slash at both ends. Default "/service/", as Patroni's.
	Namespaces []string

	// Scopes ("scopes") are the clusters of interest. Default empty: all.
	Scopes []string

	// Username ("username") and PasswordFile ("password-file"), a file with nothing
	// but the password, are for an etcd with authentication; both or neither.
	// Default "". Password is what the file holds.
	Username, PasswordFile, Password string

	// CAfile ("cafile") is a PEM file of the authorities that sign etcd's
	// certificates. Default "": those of the system.
	CAfile string

	// Certfile and Keyfile ("certfile", "keyfile") are our client certificate, for
	// etcd's client-cert-auth; both or neither. Default "".
	Certfile, Keyfile string

	// Allow ("allow") lists the networks of the members that may be polled, as CIDRs
	// or IP addresses. Default empty: all.
	Allow []netip.Prefix

	// APIPort ("api-port") is asked instead of the port that a member announces for
	// its REST API. Default 0: the announced one.
	APIPort int

	// File ("file") keeps the members that are known, for a start while etcd is out of
	// reach. Default "": none is known then.
	File string

	// Rewrite ("rewrite") maps an announced host:port to the host:port to ask
	// instead, or a host to a host; before APIPort. Default empty.
	Rewrite map[string]string
}

// on reports whether anything is discovered.
func (d *Discovery) On() bool { return len(d.Etcd) > 0 }

func (d *Discovery) read(t *table) {
	t.texts("etcd", "URLs", func(path, s string) {
		switch u, err := parseNodeURL(s); {
		case err != nil || u.Path != "" || u.Port() == "":
			t.addMistake(path, `want the URL of a member of etcd, such as "https://10.0.0.1:2379" (got %s)`, showValue(s))
		case slices.Contains(d.Etcd, u.String()):
			t.addMistake(path, "want each member of etcd once (got %s twice)", showValue(s))
		default:
			d.Etcd = append(d.Etcd, u.String())
		}
	})
	t.namespaces("namespace", &d.Namespaces)
	t.texts("scopes", "scopes", func(path, s string) {
		if !ValidName(s) {
			t.addMistake(path, `want a scope of letters, digits, ".", "_" and "-" only (got %s)`, showValue(s))
			return
		}
		d.Scopes = append(d.Scopes, s)
	})
	t.text("username", &d.Username)
	t.text("password-file", &d.PasswordFile)
	if content, ok := t.loadFile("password-file", d.PasswordFile); ok {
		if d.Password = strings.TrimRight(string(content), "\r\n"); d.Password == "" || strings.ContainsAny(d.Password, "\r\n") {
			t.reject("password-file", "want a file with one line, the password, it has another")
		}
	}
	if t.isValid("username") && t.isValid("password-file") && (d.Username == "") != (d.PasswordFile == "") {
		missing, alone := "password-file", "username"
		if d.Username == "" {
			missing, alone = alone, missing
		}
		t.addMistake(t.pathOf(missing), "want username and password-file or neither (got %s alone)", alone)
	}
	t.authorities("cafile", &d.CAfile)
	t.keyPair(&d.Certfile, &d.Keyfile)
	t.networks("allow", &d.Allow)
	t.integer("api-port", &d.APIPort, 0, math.MaxUint16)
	t.text("file", &d.File)
	rewrite := t.table("rewrite")
	for _, from := range slices.Sorted(maps.Keys(rewrite.values)) {
		var to string
		rewrite.text(from, &to)
		if !rewrite.isValid(from) {
			continue
		}
		if !validRewrite(from, to) {
			rewrite.reject(from, `want a host:port for a host:port, such as "10.0.0.11:8008" = "192.0.2.1:18008", or a host for a host`)
			continue
		}
		if d.Rewrite == nil {
			d.Rewrite = make(map[string]string)
		}
		d.Rewrite[from] = to
	}
	secure := slices.ContainsFunc(d.Etcd, func(u string) bool { return strings.HasPrefix(u, "https:") })
	plain := slices.ContainsFunc(d.Etcd, func(u string) bool { return strings.HasPrefix(u, "http:") })
	switch {
	case d.On():
		if !secure && t.isValid("etcd") {
			for _, key := range []string{"cafile", "certfile"} {
				if t.has(key) && t.isValid(key) {
					t.reject(key, "want etcd with https://, or nothing here: http has no certificates")
				}
			}
		}
		if plain && d.Password != "" {
			t.addNote(t.pathOf("etcd"), "the password crosses the network as plain text: want https://")
		}
	case !reflect.DeepEqual(*d, Default().Discovery) && t.isValid("etcd") && !t.has("etcd"):
		t.reject("etcd", `want URLs such as ["https://10.0.0.1:2379"]: without them the rest of [discovery] does nothing`)
	}
	t.rejectUnknown()
}

// validRewrite: both have a port, or both have none.
func validRewrite(from, to string) bool {
	port := func(s string) (host string, has, ok bool) {
		if ip, err := netip.ParseAddr(s); err == nil {
			return s, false, ip.Zone() == ""
		}
		if host, port, err := SplitAddress(s); err == nil {
			return host, true, host != "" && port > 0
		}
		return s, false, s != "" && ValidHost(s) && !strings.Contains(s, ",")
	}
	_, a, fromOK := port(from)
	_, b, toOK := port(to)
	return fromOK && toOK && a == b
}

// namespaces reads one or a list, and writes them as Patroni makes them (AbstractDCS.__init__).
func (t *table) namespaces(key string, p *[]string) {
	if s, one := t.values[key].(string); one {
		t.values[key] = []any{s}
	}
	var all []string
	t.texts(key, "namespaces, or one", func(path, s string) {
		parts := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.addMistake(path, `want Patroni's namespace, such as "/service/" (got %s)`, showValue(s))
			return
		}
		namespace := strings.TrimSuffix("/"+strings.Join(parts, "/"), "/") + "/"
		if slices.Contains(all, namespace) {
			t.addMistake(path, "want each namespace once (got %s twice)", showValue(namespace))
			return
		}
		all = append(all, namespace)
	})
	if t.has(key) && t.isValid(key) && len(all) > 0 {
		*p = all
	}
}
