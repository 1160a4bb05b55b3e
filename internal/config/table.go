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
	*reading
	path   string // "" for the top
	values map[string]any
	known  []string // the keys that were asked for
	noun   string   // what a key is called, "key" when empty
}

var bareKey = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func (t *table) at(key string) string {
	if !bareKey.MatchString(key) {
		key = strconv.Quote(key)
	}
	if t.path == "" {
		return key
	}
	return t.path + "." + key
}

func (t *table) get(key string) (any, bool) {
	if !slices.Contains(t.known, key) {
		t.known = append(t.known, key)
	}
	return t.values[key], t.given(key)
}

// given: YAML has keys without a value, which give nothing.
func (t *table) given(key string) bool { return t.values[key] != nil }

// valid says that nothing wrong was found in the key so far.
func (t *table) valid(key string) bool {
	return !slices.ContainsFunc(t.mistakes, func(m mistake) bool { return m.path == t.at(key) })
}

func (t *table) wrong(key, want string) {
	t.add(t.at(key), "%s (got %s)", want, show(t.values[key]))
}

// done reports the keys that nobody asked for.
func (t *table) done() {
	for _, key := range slices.Sorted(maps.Keys(t.values)) {
		if slices.Contains(t.known, key) {
			continue
		}
		noun := cmp.Or(t.noun, "key")
		if near, ok := Nearest(key, t.known); ok {
			t.add(t.at(key), "unknown %s, did you mean %q?", noun, near)
		} else {
			t.add(t.at(key), "unknown %s, want one of %s", noun, strings.Join(t.known, ", "))
		}
	}
}

// table gives a table below, empty when there is none.
func (t *table) table(key string) *table {
	v, given := t.get(key)
	values, ok := v.(map[string]any)
	if given && !ok {
		t.wrong(key, "want a table")
	}
	return &table{reading: t.reading, path: t.at(key), values: values}
}

// tables gives the tables of a list, counted from 1.
func (t *table) tables(key string) []*table {
	v, given := t.get(key)
	var list []map[string]any
	switch v := v.(type) {
	case []map[string]any:
		list = v
	case []any: // an inline one
		for _, e := range v {
			values, ok := e.(map[string]any)
			if !ok {
				t.wrong(key, "want tables, each [["+key+"]]")
				return nil
			}
			list = append(list, values)
		}
	default:
		if given {
			t.wrong(key, "want a list of tables, each [["+key+"]]")
		}
	}
	var tables []*table
	for i, values := range list {
		tables = append(tables, &table{reading: t.reading, path: fmt.Sprintf("%s[%d]", t.at(key), i+1), values: values})
	}
	return tables
}
