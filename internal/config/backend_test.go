package config

import (
	"testing"

	"patroniglue/test/harness"
)

const wantDuration = `want a duration above 0, such as "1s"`

func TestBackendMistakes(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"scheme", "backend.scheme = 'ftp'", `backend.scheme: want "http" or "https" (got "ftp")`},
		{"cafile missing", "backend.cafile = 'no.crt'", `backend.cafile: want a file that can be read: file does not exist (got "no.crt")`},
		{"cafile rubbish", "backend.cafile = 'rubbish'", `backend.cafile: want certificates in PEM (got "rubbish")`},
		{"backend certfile alone", "backend.certfile = 'a.crt'", `backend.keyfile: want certfile and keyfile or neither (got certfile alone)`},
		{"insecure", "backend.insecure = 'yes'", `backend.insecure: want true or false (got "yes")`},
		{"server-name", "backend.server-name = 'pg1:8008'", `backend.server-name: want a host name or an IP address, nothing more (got "pg1:8008")`},
		{"verify", "backend.verify = 'verify-ca'", `backend.verify: want "full" or "ca" or "none" (got "verify-ca")`},
		{"verify and insecure", "backend.verify = 'ca'\nbackend.insecure = true", `backend.insecure: want verify alone, which is "ca" (got true)`},
		{"none and secure", "backend.verify = 'none'\nbackend.insecure = false", `backend.insecure: want verify alone, which is "none" (got false)`},
		{"interval text", "backend.interval = 'fast'", `backend.interval: ` + wantDuration + ` (got "fast")`},
		{"interval zero", "backend.interval = 0", `backend.interval: ` + wantDuration + ` (got 0)`},
		{"interval negative", "backend.interval = '-1s'", `backend.interval: ` + wantDuration + ` (got "-1s")`},
		{"interval huge", "backend.interval = 1e300", `backend.interval: ` + wantDuration + ` (got 1e+300)`},
		{"interval nan", "backend.interval = nan", `backend.interval: ` + wantDuration + ` (got NaN)`},
		{"interval bool", "backend.interval = true", `backend.interval: ` + wantDuration + ` (got true)`},
		{"timeout", "backend.timeout = '0s'", `backend.timeout: ` + wantDuration + ` (got "0s")`},
		{"primary-interval", "backend.primary-interval = '2s'", `backend.primary-interval: want at most interval, which is 1s (got "2s")`},
		{"fast-interval", "backend.fast-interval = 0.3", `backend.fast-interval: want at most primary-interval, which is 250ms (got 0.3)`},
		{"fall", "backend.fall = 0", `backend.fall: want a whole number, at least 1 (got 0)`},
		{"interval and ttl", "backend.interval = '5s'", `backend.interval: want cache.ttl, which is 5s, to be at least 13s (2 * interval 5s + 3s for a poll) (got "5s")`},
	} {
		t.Run(tt.name, func(t *testing.T) { checkMistake(t, tt.text+harness.OneNode, tt.want) })
	}
}

// insecure is the old key for verify, so both are inherited as one.
func TestVerify(t *testing.T) {
	for _, tt := range []struct{ backend, node, want string }{
		{"", "", "full"},
		{"insecure = true", "", "none"},
		{"insecure = false", "", "full"},
		{"verify = 'ca'", "", "ca"},
		{"verify = 'none'\ninsecure = true", "", "none"},
		{"insecure = true", "insecure = false", "full"},
		{"insecure = true", "verify = 'ca'", "ca"},
		{"verify = 'ca'", "insecure = true", "none"},
		{"verify = 'ca'", "insecure = false", "ca"},
		{"verify = 'none'", "insecure = false", "full"},
		{"verify = 'none'", "verify = 'full'\ninsecure = false", "full"},
	} {
		text := "[backend]\n" + tt.backend + "\n[[node]]\nname = 'pg1'\nurl = 'https://pg1:8008'\n" + tt.node
		c, err := parseTOML([]byte(text), harness.Files{}.Read)
		if err != nil {
			t.Errorf("%s: %v", text, err)
		} else if got := c.Nodes[0].Verify; got != tt.want {
			t.Errorf("%s: %q, want %q", text, got, tt.want)
		}
	}
}
