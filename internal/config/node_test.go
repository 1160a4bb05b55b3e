package config

import "testing"

const (
	wantName = `want letters, digits, ".", "_" and "-" only, and not "." or ".."`
	wantURL  = `want http:// or https:// and a host, such as "http://10.0.0.11:8008"`
)

func TestConfigNodeMistakes(t *testing.T) {
	const good = "name = 'pg1'\nurl = 'http://pg1'\n"
	for _, tt := range []struct{ name, text, want string }{
		{"none", "", `node: want at least one [[node]], or [discovery] (got nothing)`},
		{"empty list", "node = []", `node: want at least one [[node]], or [discovery] (got nothing)`},
		{"no list", "[node]", `node: want a list of tables, each [[node]] (got a table)`},
		{"no tables", "node = ['http://pg1']", `node: want tables, each [[node]] (got a list)`},
		{"unknown key", "[[node]]\nttl = 1\n" + good, `node[1].ttl: unknown key, want one of name, cluster, scheme, cafile, certfile, keyfile, server-name, verify, insecure, interval, primary-interval, fast-interval, timeout, fall, url, host, port, postgres, agent`},

		{"no name", "[[node]]\nurl = 'http://pg1'", `node[1].name: want the name of the Patroni member (got nothing)`},
		{"empty name", "[[node]]\nurl = 'http://pg1'\nname = ''", `node[1].name: ` + wantName + ` (got "")`},
		{"name", "[[node]]\nurl = 'http://pg1'\nname = 'a b'", `node[1].name: ` + wantName + ` (got "a b")`},
		{"name dots", "[[node]]\nurl = 'http://pg1'\nname = '..'", `node[1].name: ` + wantName + ` (got "..")`},
		{"name twice", "[[node]]\n" + good + "[[node]]\n" + good, `node[2].name: want unique names in a cluster, "pg1" is there twice`},
		{"cluster", "[[node]]\ncluster = 'a/b'\n" + good, `node[1].cluster: ` + wantName + ` (got "a/b")`},
		{"cluster default", "[[node]]\n" + good + "[[node]]\nname = 'pg2'\nurl = 'http://pg2'\ncluster = 'default'", `node[2].cluster: want another name: nodes without a cluster, such as node[1], are in "default" (got "default")`},

		{"no url", "[[node]]\nname = 'pg1'", `node[1].url: want the address of Patroni's REST API, such as "http://10.0.0.11:8008" (got nothing)`},
		{"url scheme", "[[node]]\nname = 'pg1'\nurl = 'pg1:8008'", `node[1].url: ` + wantURL + ` (got "pg1:8008")`},
		{"url host", "[[node]]\nname = 'pg1'\nurl = 'http://:8008'", `node[1].url: ` + wantURL + ` (got "http://:8008")`},
		{"url port", "[[node]]\nname = 'pg1'\nurl = 'http://pg1:80000'", `node[1].url: want a port from 1 to 65535 (got "http://pg1:80000")`},
		{"url port empty", "[[node]]\nname = 'pg1'\nurl = 'http://pg1:'", `node[1].url: want a port from 1 to 65535 (got "http://pg1:")`},
		{"url query", "[[node]]\nname = 'pg1'\nurl = 'http://pg1/?'", `node[1].url: want a URL without user, query or fragment (got "http://pg1/?")`},
		{"url fragment", "[[node]]\nname = 'pg1'\nurl = 'http://pg1/#'", `node[1].url: want a URL without user, query or fragment (got "http://pg1/#")`},
		{"url user", "[[node]]\nname = 'pg1'\nurl = 'http://me@pg1'", `node[1].url: want a URL without user, query or fragment (got "http://...@pg1")`},
		{"url password", "[[node]]\nname = 'pg1'\nurl = 'http://me:can/ary@pg1'", `node[1].url: ` + wantURL + ` (got "http://...@pg1")`},
		{"url password and syntax", "[[node]]\nurl = http://me:canary@pg1", `line 2: expected value but found "http" instead (got "url = http://...@pg1")`},
		{"url and host", "[[node]]\nhost = 'pg1'\n" + good, `node[1].host: want either url, or host with port and scheme (got "pg1")`},
		{"url and scheme", "[[node]]\nscheme = 'https'\n" + good, `node[1].scheme: want either url, or host with port and scheme (got "https")`},
		{"host", "[[node]]\nname = 'pg1'\nhost = 'http://pg1'", `node[1].host: ` + wantHost + ` (got "http://pg1")`},
		{"port", "[[node]]\nname = 'pg1'\nhost = 'pg1'\nport = 0", `node[1].port: want a whole number from 1 to 65535 (got 0)`},
		{"postgres", "[[node]]\npostgres = 'pg1'\n" + good, `node[1].postgres: want the host and the port of the database, such as "10.0.0.11:5432" (got "pg1")`},
		{"postgres host", "[[node]]\npostgres = ':5432'\n" + good, `node[1].postgres: want the host and the port of the database, such as "10.0.0.11:5432" (got ":5432")`},

		{"interval", "[[node]]\ninterval = 'x'\n" + good, `node[1].interval: ` + wantDuration + ` (got "x")`},
		{"interval and ttl", "[[node]]\ninterval = 5\n" + good, `node[1].interval: want cache.ttl, which is 5s, to be at least 13s (2 * interval 5s + 3s for a poll) (got 5)`},
		{"url twice", "[[node]]\nname='pg1'\nurl='http://10.0.0.11:8008'\n[[node]]\nname='pg2'\ncluster='other'\nurl='http://[::ffff:10.0.0.11]:8008/'", `node[2].url: want another url for "pg2", it is that of node[1], "pg1" (got "http://[::ffff:10.0.0.11]:8008")`},
		{"url and host", "[[node]]\nname='pg1'\nhost='PG1'\n[[node]]\nname='pg2'\nurl='http://pg1.:8008'", `node[2].url: want another url for "pg2", it is that of node[1], "pg1" (got "http://pg1.:8008")`},
		{"timeout and ttl", "backend = {interval=2, timeout='1s'}\n[[node]]\ntimeout = 2\n" + good, `node[1].timeout: want cache.ttl, which is 5s, to be at least 6s (2 * interval 2s + 2s for a poll) (got 2)`},
		{"primary-interval", "[[node]]\nprimary-interval = 2\n" + good, `node[1].primary-interval: want at most interval, which is 1s (got 2)`},
		{"keyfile of another", "[backend]\ncertfile = 'a.crt'\nkeyfile = 'a.key'\n[[node]]\nkeyfile = 'b.key'\n" + good, `node[1].certfile: want a certificate and its key in PEM: tls: private key does not match public key (got "a.crt" and "b.key")`},
		{"keyfile taken away", "[backend]\ncertfile = 'a.crt'\nkeyfile = 'a.key'\n[[node]]\nkeyfile = ''\n" + good, `node[1].keyfile: want certfile and keyfile or neither (got certfile alone)`},

		{"agent", "[[node]]\nagent = ':5551'\n" + good, `node[1].agent: want a table (got ":5551")`},
		{"agent check", "[[node]]\nagent.primry = ':5551'\n" + good, `node[1].agent.primry: unknown check, did you mean "primary"?`},
		{"agent address", "[[node]]\nagent.primary = '5551'\n" + good, `node[1].agent.primary: ` + wantListen + ` (got "5551")`},
		{"agent address twice", "[[node]]\nagent = { primary = ':5551', replica = '127.0.0.1:5551' }\n" + good, `node[1].agent.replica: want an address of its own, node[1].agent.primary has ":5551" too (got "127.0.0.1:5551")`},
		{"agent address shared", "agent.listen = 'a:5551'\n[[node]]\nagent.primary = 'A:5551'\n" + good, `node[1].agent.primary: want an address of its own, agent.listen has "a:5551" too (got "A:5551")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text, tt.want) })
	}
}
