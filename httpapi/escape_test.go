package httpapi

import (
	"encoding/json"
	"reflect"
	"testing"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":1}`:                      `{"a":1}`,
		"{\"a\":\r\n\t\"ü€😀\"}":        "{\"a\": \n\t\"ü€😀\"}",
		"\"\x7f\u009b\u00a0\"":         `"\u007f\u009b\u00a0"`,
		"\"\u202e\u2028\ufeff\u200b\"": `"\u202e\u2028\ufeff\u200b"`,
		"\"\U000e0001\"":               `"\udb40\udc01"`,
		"\"\xff\ufffd\"":               `"\ufffd` + "\ufffd\"",
	} {
		got := string(Printable([]byte(in)))
		if got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
		var before, after any
		if json.Unmarshal([]byte(in), &before) != nil || json.Unmarshal([]byte(got), &after) != nil {
			t.Errorf("%q or %q is no JSON", in, got)
		} else if !reflect.DeepEqual(before, after) {
			t.Errorf("%q means %v, %q means %v", in, before, got, after)
		}
	}
}
