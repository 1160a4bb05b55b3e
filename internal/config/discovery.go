package config

import (
	"maps"
	"math"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Discovery is [discovery]: the etcd that knows the members, and which of them to poll
// and where. They are polled as [backend] says.
type Discovery struct {
	// Etcd ("etcd") are the URLs of the members of one etcd, http or https, each with
	// a port. Default empty: discovery is off.
	Etcd []string

	// Namespaces ("namespace", a string or a list of them) are those of Patroni's
	// configuration, here with a slash at both ends. Default "/service/", as Patroni's.
	Namespaces []string

	// Scopes ("scopes") are the scopes to watch. Default empty: all.
	Scopes []string

	// Username ("username") and PasswordFile ("password-file"), a file with the
	// password and nothing else, are for an etcd with authentication; both or neither.
	// Default "". Password is the password in that file.
	Username, PasswordFile, Password string

	// CAfile ("cafile") is a PEM file of the authorities that sign etcd's
	// certificates. Default "": those of the system.
	CAfile string

	// Certfile and Keyfile ("certfile", "keyfile") are our client certificate, for
	// etcd's client-cert-auth; both or neither. Default "".
	Certfile, Keyfile string

	// Allow ("allow") lists the networks of the members that may be polled, as CIDRs
	// or IP addresses. Default empty: all but those that every machine has, such as
	// 127.0.0.1, which have to be named.
	Allow []netip.Prefix

	// APIPort ("api-port") is polled instead of the port that a member announces for
	// its REST API. Default 0: the announced one.
	APIPort int

	// File ("file") saves the known members, for a start while etcd is down.
	// Default "": no file, and no member is known then.
	File string

	// Rewrite ("rewrite") has what to poll instead of an announced address: a host:port
	// by host:port, or a host by host. It is applied before APIPort. Default empty.
	Rewrite map[string]string
}

// On reports whether members are discovered.
func (d *Discovery) On() bool { return len(d.Etcd) > 0 }

func (d *Discovery) read(t *table) {
	d.readEtcd(t)
	t.namespaces("namespace", &d.Namespaces)
	d.readScopes(t)
	d.readLogin(t)
	t.authorities("cafile", &d.CAfile)
	t.keyPair(&d.Certfile, &d.Keyfile)
	t.networks("allow", &d.Allow)
	t.integer("api-port", &d.APIPort, 0, math.MaxUint16)
	t.text("file", &d.File)
	d.readRewrite(t.table("rewrite"))
	if d.On() {
		d.checkTransport(t)
	} else if !reflect.DeepEqual(*d, Default().Discovery) && t.isValid("etcd") && !t.has("etcd") {
		t.reject("etcd", `want URLs such as ["https://10.0.0.1:2379"]: without them the rest of [discovery] does nothing`)
	}
	t.rejectUnknown()
}

func (d *Discovery) readEtcd(t *table) {
	t.texts("etcd", "URLs", func(path, s string) {
		switch u, err := parseURL(s); {
		case err != nil || u.Path != "" || u.Port() == "":
			t.addMistake(path, `want the URL of a member of etcd, such as "https://10.0.0.1:2379" (got %s)`, showValue(s))
		case slices.Contains(d.Etcd, u.String()):
			t.addMistake(path, "want each member of etcd once (got %s twice)", showValue(s))
		default:
			d.Etcd = append(d.Etcd, u.String())
		}
	})
}

func (d *Discovery) readScopes(t *table) {
	t.texts("scopes", "scopes", func(path, s string) {
		if !ValidName(s) {
			t.addMistake(path, `want a scope of letters, digits, ".", "_" and "-" only (got %s)`, showValue(s))
			return
		}
		d.Scopes = append(d.Scopes, s)
	})
}

// readLogin reads the user's name and the password file for etcd: both or neither.
func (d *Discovery) readLogin(t *table) {
	t.text("username", &d.Username)
	t.text("password-file", &d.PasswordFile)
	if content, ok := t.loadFile("password-file", d.PasswordFile); ok {
		d.Password = strings.TrimRight(string(content), "\r\n")
		switch {
		case d.Password == "":
			t.reject("password-file", "want a file with a password, it is empty")
		case strings.ContainsAny(d.Password, "\r\n"):
			t.reject("password-file", "want a file with one line, the password, it has more")
		}
	}
	if t.isValid("username") && t.isValid("password-file") {
		t.bothOrNeither("username", d.Username, "password-file", d.PasswordFile)
	}
}

// readRewrite reads the table whose keys are announced addresses.
func (d *Discovery) readRewrite(t *table) {
	for _, from := range slices.Sorted(maps.Keys(t.values)) {
		var to string
		t.text(from, &to)
		if !t.isValid(from) {
			continue
		}
		if !validRewrite(from, to) {
			t.reject(from, `want a host:port for a host:port, such as "10.0.0.11:8008" = "192.0.2.1:18008", or a host for a host`)
			continue
		}
		if d.Rewrite == nil {
			d.Rewrite = make(map[string]string)
		}
		d.Rewrite[from] = to
	}
}

// checkTransport refuses certificates where no URL of etcd has TLS, and notes a
// password that crosses the network as plain text.
func (d *Discovery) checkTransport(t *table) {
	hasScheme := func(scheme string) bool {
		return slices.ContainsFunc(d.Etcd, func(u string) bool { return strings.HasPrefix(u, scheme+":") })
	}
	if !hasScheme("https") && t.isValid("etcd") {
		for _, key := range []string{"cafile", "certfile"} {
			if t.has(key) && t.isValid(key) {
				t.reject(key, "want https:// URLs of etcd, or nothing here: http has no certificates")
			}
		}
	}
	if hasScheme("http") && d.Password != "" {
		t.addNote(t.pathOf("etcd"), "the password crosses the network as plain text: want https://")
	}
}

// validRewrite reports whether an address can stand for another: both have a port, or
// neither has one.
func validRewrite(from, to string) bool {
	fromHasPort, fromOK := splitRewrite(from)
	toHasPort, toOK := splitRewrite(to)
	return fromOK && toOK && fromHasPort == toHasPort
}

// splitRewrite reports whether s, a host or a host:port, has a port and is valid.
func splitRewrite(s string) (hasPort, ok bool) {
	if ip, err := netip.ParseAddr(s); err == nil {
		return false, ip.Zone() == ""
	}
	if host, port, err := SplitAddress(s); err == nil {
		return true, host != "" && port > 0
	}
	return false, s != "" && ValidHost(s) && !strings.Contains(s, ",")
}

// namespaces reads one namespace or a list of them.
func (t *table) namespaces(key string, p *[]string) {
	if s, isOne := t.values[key].(string); isOne {
		t.values[key] = []any{s}
	}
	var all []string
	t.texts(key, "namespaces, or one", func(path, s string) {
		if s == "" || strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }) {
			t.addMistake(path, `want Patroni's namespace, such as "/service/" (got %s)`, showValue(s))
			return
		}
		namespace := cleanNamespace(s)
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

// cleanNamespace writes a namespace as Patroni does (AbstractDCS.__init__).
func cleanNamespace(s string) string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == '/' })
	return strings.TrimSuffix("/"+strings.Join(parts, "/"), "/") + "/"
}
