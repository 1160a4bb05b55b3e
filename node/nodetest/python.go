package nodetest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// This file imitates Python: how it parses a request, judges truth, and writes text, times and JSON.

// params is a query as Python's parse_qs parses it, with the first value of each key.
type params map[string]string

// splitTarget parses a request target as Python's urlparse does: the path is not unescaped, a parameter (";x") and
// a fragment are dropped. Two slashes in front become one, as http.server has it.
func splitTarget(target string) (path string, query params) {
	if scheme, rest, ok := strings.Cut(target, "://"); ok && !strings.Contains(scheme, "/") {
		_, path, _ = strings.Cut(rest, "/")
		target = "/" + path
	}
	if strings.HasPrefix(target, "//") {
		target = "/" + strings.TrimLeft(target, "/")
	}
	target, _, _ = strings.Cut(target, "#")
	path, raw, _ := strings.Cut(target, "?")
	if i := strings.LastIndexByte(path, ';'); i > strings.LastIndexByte(path, '/') {
		path = path[:i]
	}

	query = params{}
	for pair := range strings.SplitSeq(raw, "&") {
		key, value, _ := strings.Cut(pair, "=")
		key, value = unescape(key), unescape(value)
		if _, seen := query[key]; !seen && value != "" { // blank values are dropped: ?lag= is no limit
			query[key] = value
		}
	}
	return path, query
}

func unescape(s string) string {
	if u, err := url.QueryUnescape(s); err == nil {
		return u
	}
	return s
}

// truthy is Python's bool(): noloadbalance: "false" is a non-empty string, hence true.
func truthy(v any) bool {
	switch v := v.(type) {
	case nil:
		return false
	case bool:
		return v
	case string:
		return v != ""
	case json.Number:
		f, err := v.Float64()
		return err != nil || f != 0
	case []any:
		return len(v) > 0
	case map[string]any:
		return len(v) > 0
	}
	return fmt.Sprint(v) != "0"
}

// pythonStr is the text with which Patroni compares a tag: strings as they are, the rest as str(v).lower().
func pythonStr(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		if v == math.Trunc(v) && math.Abs(v) < 1e16 {
			return fmt.Sprintf("%.1f", v)
		}
	}
	return strings.ToLower(fmt.Sprint(v))
}

func sortedKeys(m map[string]any) []string { return slices.Sorted(maps.Keys(m)) }

func orEmpty(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// object is a JSON object that keeps the order of its keys, as a Python dict does.
type object []field

type field struct {
	key   string
	value any
}

func (o *object) add(key string, value any) { *o = append(*o, field{key, value}) }

func (o object) MarshalJSON() ([]byte, error) {
	b := []byte{'{'}
	for i, f := range o {
		if i > 0 {
			b = append(b, ',')
		}
		key, err := plainJSON(f.key)
		if err != nil {
			return nil, err
		}
		value, err := plainJSON(f.value)
		if err != nil {
			return nil, err
		}
		b = append(append(append(b, key...), ':'), value...)
	}
	return append(b, '}'), nil
}

// plainJSON is json.Marshal without the escapes for HTML.
func plainJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n")), err
}

// pythonJSON writes v as Python's json.dumps does: a space after each comma and colon, nothing but ASCII. People parse
// Patroni's documents with grep, so the spaces are part of the interface.
func pythonJSON(v any) []byte {
	plain, err := plainJSON(v)
	if err != nil {
		panic(fmt.Sprintf("nodetest: a state holds what JSON cannot: %v", err))
	}

	out := make([]byte, 0, len(plain)+len(plain)/8)
	inString := false
	for i := 0; i < len(plain); {
		c := plain[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(plain[i:])
			i += size
			if hi, lo := utf16.EncodeRune(r); hi != utf8.RuneError {
				out = fmt.Appendf(out, `\u%04x\u%04x`, hi, lo)
			} else {
				out = fmt.Appendf(out, `\u%04x`, r)
			}
			continue
		}
		out = append(out, c)
		i++
		switch {
		case inString && c == '\\': // the escaped byte may be a quote
			out = append(out, plain[i])
			i++
		case c == '"':
			inString = !inString
		case !inString && (c == ',' || c == ':'):
			out = append(out, ' ')
		}
	}
	return out
}

// Times are str(datetime) since 2.1.0; before, Postgres' to_char made them.
const (
	pyLayout     = "2006-01-02 15:04:05.999999-07:00"
	toCharLayout = "2006-01-02 15:04:05.000 MST"
)

// pyTime is null for the zero time.
func pyTime(t time.Time, v release) any {
	switch {
	case t.IsZero():
		return nil
	case !v.since(2, 1, 0):
		return t.UTC().Format(toCharLayout)
	case t.Truncate(time.Microsecond).Equal(t.Truncate(time.Second)): // str(datetime) leaves out a fraction of 0
		return t.UTC().Format("2006-01-02 15:04:05-07:00")
	}
	return t.UTC().Format("2006-01-02 15:04:05.000000-07:00")
}

func parsePyTime(s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(pyLayout, s)
	if err != nil {
		if old, err := time.Parse(toCharLayout, s); err == nil {
			return old, nil
		}
	}
	return t, err
}
