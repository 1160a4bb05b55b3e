package config

import (
	"testing"

	"patroniglue/test/harness"
)

const (
	wantEtcd    = `want the URL of a member of etcd, such as "https://10.0.0.1:2379"`
	wantRewrite = `want a host:port for a host:port, such as "10.0.0.11:8008" = "192.0.2.1:18008", or a host for a host`
)

func TestDiscoveryMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"etcd no URL", "discovery.etcd = ['10.0.0.1:2379']", `discovery.etcd[1]: ` + wantEtcd + ` (got "10.0.0.1:2379")`},
		{"etcd without a port", "discovery.etcd = ['https://10.0.0.1']", `discovery.etcd[1]: ` + wantEtcd + ` (got "https://10.0.0.1")`},
		{"etcd with a password", "discovery.etcd = ['https://u:canary@10.0.0.1:2379']", `discovery.etcd[1]: ` + wantEtcd + ` (got "https://...@10.0.0.1:2379")`},
		{"etcd twice", "discovery.etcd = ['http://a:1', 'http://a:1/']", `discovery.etcd[2]: want each member of etcd once (got "http://a:1/" twice)`},
		{"discovery without etcd", "discovery.scopes = ['main']", `discovery.etcd: want URLs such as ["https://10.0.0.1:2379"]: without them the rest of [discovery] does nothing (got nothing)`},
		{"namespace", "[discovery]\netcd = ['http://a:1']\nnamespace = ''", `discovery.namespace[1]: want Patroni's namespace, such as "/service/" (got "")`},
		{"namespace twice", "[discovery]\netcd = ['http://a:1']\nnamespace = ['service', '/service/']", `discovery.namespace[2]: want each namespace once (got "/service/" twice)`},
		{"namespace number", "[discovery]\netcd = ['http://a:1']\nnamespace = 1", `discovery.namespace: want a list of namespaces, or one (got 1)`},
		{"scopes", "[discovery]\netcd = ['http://a:1']\nscopes = ['a/b']", `discovery.scopes[1]: want a scope of letters, digits, ".", "_" and "-" only (got "a/b")`},
		{"etcd's username alone", "[discovery]\netcd = ['http://a:1']\nusername = 'u'", `discovery.password-file: want username and password-file or neither (got username alone)`},
		{"etcd's password alone", "[discovery]\netcd = ['http://a:1']\npassword-file = 'token'", `discovery.username: want username and password-file or neither (got password-file alone)`},
		{"etcd's password empty", "[discovery]\netcd = ['http://a:1']\nusername = 'u'\npassword-file = 'empty'", `discovery.password-file: want a file with a password, it is empty (got "empty")`},
		{"etcd's password with two", "[discovery]\netcd = ['http://a:1']\nusername = 'u'\npassword-file = 'two'", `discovery.password-file: want a file with one line, the password, it has more (got "two")`},
		{"etcd's CA without TLS", "[discovery]\netcd = ['http://a:1']\ncafile = 'a.crt'", `discovery.cafile: want https:// URLs of etcd, or nothing here: http has no certificates (got "a.crt")`},
		{"api-port", "[discovery]\netcd = ['http://a:1']\napi-port = 65536", `discovery.api-port: want a whole number from 0 to 65535 (got 65536)`},
		{"rewrite", "[discovery]\netcd = ['http://a:1']\nrewrite = { '10.0.0.1:8008' = '192.0.2.1' }", `discovery.rewrite."10.0.0.1:8008": ` + wantRewrite + ` (got "192.0.2.1")`},
		{"rewrite of a URL", "[discovery]\netcd = ['http://a:1']\nrewrite = { 'http://a' = 'b' }", `discovery.rewrite."http://a": ` + wantRewrite + ` (got "b")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
