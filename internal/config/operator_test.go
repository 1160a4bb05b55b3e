package config

import (
	"slices"
	"testing"

	"patroniglue/test/harness"
)

func TestConfigOperator(t *testing.T) {
	const tlsFrontend = "[frontend]\ncertfile = 'a.crt'\nkeyfile = 'a.key'\nallow = ['10.0.0.0/8']\n"
	plain := []string{"operator.listen: passwords cross the network as plain text: want certfile and keyfile, or localhost behind a proxy with TLS"}
	for _, tt := range []struct {
		text, certfile string
		allow, notes   []string
	}{
		{"[operator]\nlisten = ':1'\n", "", nil, nil},
		{"[operator]\nlisten = ':1'\npassword-file = 'passwords'\n", "", nil, plain},
		{"[operator]\nlisten = '10.0.0.1:1'\npassword-file = 'passwords'\n", "", nil, plain},
		{"[operator]\nlisten = 'localhost:1'\npassword-file = 'passwords'\n", "", nil, nil},
		{"[operator]\nlisten = '[::1]:1'\npassword-file = 'passwords'\n", "", nil, nil},
		{tlsFrontend + "[operator]\nlisten = ':1'\npassword-file = 'passwords'\n", "a.crt", []string{"10.0.0.0/8"}, nil},
		{tlsFrontend + "[operator]\nlisten = ':1'\ncertfile = 'b.crt'\nkeyfile = 'b.key'\nallow = ['0.0.0.0/0']\n", "b.crt", []string{"0.0.0.0/0"}, nil},
	} {
		c, err := parseTOML([]byte(tt.text+harness.OneNode), harness.NewFiles(t).Read)
		if err != nil {
			t.Fatal(err)
		}
		var allow []string
		for _, p := range c.Operator.Allow {
			allow = append(allow, p.String())
		}
		if o := c.Operator; o.Certfile != tt.certfile || !slices.Equal(allow, tt.allow) || !slices.Equal(c.Notes, tt.notes) {
			t.Errorf("%s: certificate %q, allow %q, notes %q", tt.text, o.Certfile, allow, c.Notes)
		}
	}
}

func TestOperatorMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"operator without an address", "operator.password-file = 'passwords'", `operator.listen: want an address such as "localhost:8010": without one the rest of [operator] protects nothing (got nothing)`},
		{"operator's address", "operator.listen = '8010'", `operator.listen: ` + wantListen + ` (got "8010")`},
		{"operator's certfile alone", "operator.listen = ':1'\noperator.certfile = 'a.crt'", `operator.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"operator's client-cafile without TLS", "operator.listen = ':1'\noperator.client-cafile = 'a.crt'", `operator.client-cafile: want certfile and keyfile too: only TLS has client certificates (got "a.crt")`},
		{"operator more open than the frontend", "operator.listen = ':1'\n[frontend]\nclient-cafile = 'a.crt'\ncertfile = 'a.crt'\nkeyfile = 'a.key'", `operator.client-cafile: want this or password-file: [frontend] asks for client certificates, [operator] would ask for nothing (got nothing)`},
		{"passwords missing", "operator.listen = ':1'\noperator.password-file = 'no'", `operator.password-file: want a file that can be read: file does not exist (got "no")`},
		{"passwords without a hash", "operator.listen = ':1'\noperator.password-file = 'no-colon'", `operator.password-file: want lines of user:hash as htpasswd -B writes them, line 2 is not one (got "no-colon")`},
		{"passwords without a user", "operator.listen = ':1'\noperator.password-file = 'no-user'", `operator.password-file: want lines of user:hash as htpasswd -B writes them, line 1 is not one (got "no-user")`},
		{"passwords of another kind", "operator.listen = ':1'\noperator.password-file = 'sha1'", `operator.password-file: want bcrypt hashes ($2y$...) as htpasswd -B writes them, line 1 has none (got "sha1")`},
		{"passwords cut off", "operator.listen = ':1'\noperator.password-file = 'short'", `operator.password-file: want bcrypt hashes ($2y$...) as htpasswd -B writes them, line 1 has none (got "short")`},
		{"passwords that take seconds", "operator.listen = ':1'\noperator.password-file = 'slow'", `operator.password-file: want bcrypt hashes with a cost of at most 14, else each login takes seconds: line 1 has 15 (got "slow")`},
		{"passwords twice", "operator.listen = ':1'\noperator.password-file = 'twice'", `operator.password-file: want each user once, line 2 repeats one (got "twice")`},
		{"passwords of nobody", "operator.listen = ':1'\noperator.password-file = 'nobody'", `operator.password-file: want a file with lines of user:hash, it has none (got "nobody")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}
