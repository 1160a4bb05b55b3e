package discovery

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
)

// Announced is a member as the DCS lists it.
type Announced struct {
	Scope, Name string
	API         *url.URL // scheme and host of its api_url; nil if Problem is set
	Postgres    string   // host:port of its conn_url, "" = unknown
	Problem     string   // why its document cannot be used; "" = it can
	Created     int64    // etcd's revision that created the key: it grows, so the smaller one is older
}

func (a *Announced) same(b *Announced) bool {
	return a.Problem == b.Problem && a.Postgres == b.Postgres && a.Created == b.Created && sameURL(a.API, b.API)
}

func sameURL(a, b *url.URL) bool {
	return a == b || a != nil && b != nil && a.Scheme == b.Scheme && a.Host == b.Host
}

// parseMember reads the document that Patroni writes for a member (ha.py,
// touch_member). It uses only the addresses: the member itself knows all else better.
func parseMember(value []byte) Announced {
	problem := func(format string, args ...any) Announced {
		return Announced{Problem: truncate(fmt.Sprintf(format, args...))}
	}
	if len(value) > maxDocument {
		return problem("its document has %d bytes, want at most %d", len(value), maxDocument)
	}
	var in struct {
		API  json.RawMessage `json:"api_url"`
		Conn json.RawMessage `json:"conn_url"`
	}
	if err := json.Unmarshal(value, &in); err != nil {
		return problem("its document is no JSON object: %v (got %s)", err, excerpt(value))
	}
	var raw, conn string
	if json.Unmarshal(in.API, &raw) != nil || raw == "" {
		return problem(`its document has no api_url, want one such as "http://10.0.0.11:8008/patroni" (got %s)`, excerpt(in.API))
	}
	api, err := parseAPI(raw)
	if err != nil {
		return problem("its api_url: %v (got %s)", err, excerpt(in.API))
	}
	_ = json.Unmarshal(in.Conn, &conn) // optional: a member without it is polled, too
	return Announced{API: api, Postgres: parsePostgres(conn)}
}

// parseAPI reads an api_url and drops its path, which is /patroni.
func parseAPI(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.User != nil || !isHostPort(u.Host) {
		return nil, fmt.Errorf(`want http:// or https://, a host and a port, such as "http://10.0.0.11:8008/patroni"`)
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// parsePostgres returns the host:port of a conn_url such as
// postgres://10.0.0.11:5432/postgres; "" if it has none that is valid.
func parsePostgres(raw string) string {
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" {
		return ""
	}
	hostport := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "5432"))
	if !isHostPort(hostport) {
		return ""
	}
	return hostport
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,253})$`)

// isHostPort reports whether s is a name or an IP address with or without a port.
func isHostPort(s string) bool {
	u := url.URL{Host: s}
	host, port := u.Hostname(), u.Port()
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.Zone() != "" || ip.Is6() != strings.HasPrefix(s, "[") {
			return false
		}
	} else if !hostName.MatchString(host) {
		return false
	}
	if port == "" {
		return !strings.HasSuffix(s, ":")
	}
	return len(port) <= 5 && portNumber(port) > 0
}

func portNumber(s string) int {
	n := 0
	for _, c := range []byte(s) {
		if c < '0' || c > '9' {
			return 0
		}
		n = n*10 + int(c-'0')
	}
	if n > 65535 {
		return 0
	}
	return n
}

// userinfo matches the part of a URL that may have a password.
var userinfo = regexp.MustCompile(`//\S*@`)

// excerpt quotes the beginning of b, without passwords in URLs.
func excerpt(b []byte) string {
	const most = 60
	b = userinfo.ReplaceAll(b, []byte("//...@"))
	if len(b) == 0 {
		return "nothing"
	}
	if len(b) > most {
		return fmt.Sprintf("%q...", b[:most])
	}
	return fmt.Sprintf("%q", b)
}

// truncate bounds the length of a text that quotes foreign data.
func truncate(s string) string {
	const most = 500
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "..."
}
