package config

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/node"
)

// text reads a string.
func (t *table) text(key string, p *string) {
	v, given := t.value(key)
	if !given {
		return
	}
	s, ok := v.(string)
	if !ok {
		t.reject(key, "want a string")
		return
	}
	*p = s
}

// texts reads a list of strings, called plural in messages, and calls each with each
// string and its path.
func (t *table) texts(key, plural string, each func(path, s string)) {
	v, given := t.value(key)
	if !given {
		return
	}
	list, ok := v.([]any)
	if !ok {
		t.reject(key, "want a list of "+plural)
		return
	}
	for i, e := range list {
		path := fmt.Sprintf("%s[%d]", t.pathOf(key), i+1)
		if s, ok := e.(string); ok {
			each(path, s)
		} else {
			t.addMistake(path, "want a string (got %s)", showValue(e))
		}
	}
}

// choice reads one of several strings.
func (t *table) choice(key string, p *string, choices ...string) {
	s := *p
	t.text(key, &s)
	if !t.isValid(key) {
		return
	}
	if !slices.Contains(choices, s) {
		var quoted []string
		for _, c := range choices {
			quoted = append(quoted, strconv.Quote(c))
		}
		t.reject(key, "want "+strings.Join(quoted, " or "))
		return
	}
	*p = s
}

// boolean reads true or false.
func (t *table) boolean(key string, p *bool) {
	v, given := t.value(key)
	if !given {
		return
	}
	b, ok := v.(bool)
	if !ok {
		t.reject(key, "want true or false")
		return
	}
	*p = b
}

// integer reads a whole number from low to high.
func (t *table) integer(key string, p *int, low, high int) {
	v, given := t.value(key)
	if !given {
		return
	}
	n := int64(low) - 1
	switch v := v.(type) {
	case int:
		n = int64(v)
	case int64:
		n = v
	}
	if n < int64(low) || n > int64(high) {
		if high == math.MaxInt32 {
			t.reject(key, fmt.Sprintf("want a whole number, at least %d", low))
		} else {
			t.reject(key, fmt.Sprintf("want a whole number from %d to %d", low, high))
		}
		return
	}
	*p = int(n)
}

// duration reads a string such as "250ms", or a number of seconds; at least low.
func (t *table) duration(key string, p *time.Duration, low time.Duration) {
	v, given := t.value(key)
	if !given {
		return
	}
	d := low - 1
	seconds := math.NaN()
	switch v := v.(type) {
	case string:
		if parsed, err := time.ParseDuration(v); err == nil {
			d = parsed
		}
	case int:
		seconds = float64(v)
	case int64:
		seconds = float64(v)
	case uint64:
		seconds = float64(v)
	case float64:
		seconds = v
	}
	if math.Abs(seconds) < math.MaxInt64/float64(time.Second) { // false for NaN
		d = time.Duration(math.Round(seconds * float64(time.Second)))
	}
	switch {
	case d >= low:
		*p = d
	case low > 0:
		t.reject(key, `want a duration above 0, such as "1s"`)
	default:
		t.reject(key, `want a duration, 0 or more, such as "1s"`)
	}
}

// capDuration requires that a duration is at most limit, the value of limitKey. One that
// the file does not give is lowered to it.
func (t *table) capDuration(key string, p *time.Duration, limitKey string, limit time.Duration) {
	if *p <= limit || !t.isValid(key) || !t.isValid(limitKey) {
		return
	}
	if t.has(key) {
		t.reject(key, fmt.Sprintf("want at most %s, which is %s", limitKey, limit))
		return
	}
	*p = limit
}

// size reads a string such as "100MB", or a number of bytes. "" is 0.
func (t *table) size(key string, p *int64) {
	v, given := t.value(key)
	if !given {
		return
	}
	switch v := v.(type) {
	case string:
		if v == "" {
			*p = 0
			return
		}
		if n, err := node.ParseSize(v); err == nil {
			*p = n
			return
		}
	case int64:
		if v >= 0 {
			*p = v
			return
		}
	}
	t.reject(key, `want a size in B, kB, MB, GB or TB, such as "100MB", or "" for none`)
}
