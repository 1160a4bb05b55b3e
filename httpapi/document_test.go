package httpapi

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestAppendMembers(t *testing.T) {
	for _, tt := range []struct{ raw, want string }{
		{`{"a": 1}`, `"a": 1,`},
		{"{ \"a\" : 1\n}", ` "a" : 1,`},
		{`{"a": {"patroniglue": 1},  "b": "patroniglue"}`, `"a": {"patroniglue": 1},  "b": "patroniglue",`},
		{`{"a": 1, "b": 2,"patroniglue":{"node":"pg1"}}`, `"a": 1, "b": 2,`},
		{`{"patroniglue": [1, 2], "a": 1 , "b": "<"}`, `"a": 1 , "b": "<",`},
		{`{"a": 1, "patroniglue": null, "b": 1e400, "patroniglue": ""}`, `"a": 1, "b": 1e400,`},
	} {
		var buf bytes.Buffer
		appendMembers(&buf, []byte(tt.raw))
		if got := buf.String(); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.raw, got, tt.want)
		}
		if whole := "{" + buf.String() + `"patroniglue":{}}`; !json.Valid([]byte(whole)) {
			t.Errorf("%s: not JSON: %s", tt.raw, whole)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{"", "plain (got 5)", `"\`, "</script>", "\x1b[31m\n", "ü €", "\xff", "\u2028"} {
		var buf bytes.Buffer
		appendString(&buf, s)
		if want, _ := json.Marshal(s); buf.String() != string(want) {
			t.Errorf("%q: %s, want %s", s, buf.String(), want)
		}
	}
}
