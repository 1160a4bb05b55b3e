package config

import (
	"cmp"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// table reads the keys of one table over preset values, which stay as they are
// when a key is not given or wrong.
type table struct {
	*reader
	path   string // "" for the top
	values map[string]any
	known  []string // the keys that were asked for
	noun   string   // what a key is called, "key" when empty
}

var word = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (t *table) pathOf(key string) string {
	if !word.MatchString(key) {
		key = strconv.Quote(key)
	}
	if t.path == "" {
		return key
	}
	return t.path + "." + key
}

func (t *table) value(key string) (any, bool) {
	if !slices.Contains(t.known, key) {
		t.known = append(t.known, key)
	}
	return t.values[key], t.has(key)
}

// given: YAML has keys without a value, which give nothing.
func (t *table) has(key string) bool { return t.values[key] != nil }

// valid says that nothing wrong was found in the key so far.
func (t *table) isValid(key string) bool {
	return !slices.ContainsFunc(t.mistakes, func(m mistake) bool { return m.path == t.pathOf(key) })
}

func (t *table) reject(key, want string) {
	t.addMistake(t.pathOf(key), "%s (got %s)", want, showValue(t.values[key]))
}

// done reports the keys that nobody asked for.
func (t *table) rejectUnknown() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if slices.Contains(t.known, key) {
			continue
		}
		noun := cmp.Or(t.noun, "key")
		if near, ok := Nearest(key, t.known); ok {
			t.addMistake(t.pathOf(key), "unknown %s, did you mean %q?", noun, near)
		} else {
			t.addMistake(t.pathOf(key), "unknown %s, want one of %s", noun, strings.Join(t.known, ", "))
		}
	}
}

// table gives a table below, empty when there is none.
func (t *table) table(key string) *table {
	v, given := t.value(key)
	values, ok := v.(map[string]any)
	if given && !ok {
		t.reject(key, "want a table")
	}
	return &table{reader: t.reader, path: t.pathOf(key), values: values}
}

// tables gives the tables of a list, counted from 1.
func (t *table) tables(key string) []*table {
	v, given := t.value(key)
	var list []map[string]any
	switch v := v.(type) {
	case []map[string]any:
		list = v
	case []any: // an inline one
		for _, e := range v {
			values, ok := e.(map[string]any)
			if !ok {
				t.reject(key, "want tables, each [["+key+"]]")
				return nil
			}
			list = append(list, values)
		}
	default:
		if given {
			t.reject(key, "want a list of tables, each [["+key+"]]")
		}
	}
	var tables []*table
	for i, values := range list {
		tables = append(tables, &table{reader: t.reader, path: fmt.Sprintf("%s[%d]", t.pathOf(key), i+1), values: values})
	}
	return tables
}
