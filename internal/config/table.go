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

// table reads the keys of one table of the file. Its methods that are named after a
// type, such as duration, read a key into a variable that holds the default: the
// variable keeps it if the key is not given, or wrong.
type table struct {
	*reader
	path   string // "" for the top
	values map[string]any
	known  []string // the keys that were read so far
	noun   string   // what a key is called in messages, "key" when empty
}

// pathOf returns the path of a key in the file, such as node[1].agent.primary.
func (t *table) pathOf(key string) string { return joinPath(t.path, key) }

// word is a key that TOML takes without quotes.
var word = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

func joinPath(table, key string) string {
	if !word.MatchString(key) {
		key = strconv.Quote(key)
	}
	if table == "" {
		return key
	}
	return table + "." + key
}

// value returns the value of a key and whether it is given. From then on the key is a
// known one.
func (t *table) value(key string) (any, bool) {
	if !slices.Contains(t.known, key) {
		t.known = append(t.known, key)
	}
	return t.values[key], t.has(key)
}

// has reports whether the file gives key. A key of YAML without a value gives nothing.
func (t *table) has(key string) bool { return t.values[key] != nil }

// isValid reports whether no mistake was found at key so far.
func (t *table) isValid(key string) bool {
	return !slices.ContainsFunc(t.mistakes, func(m mistake) bool { return m.path == t.pathOf(key) })
}

// reject adds a mistake at key, with the value that stands there.
func (t *table) reject(key, want string) {
	t.addMistake(t.pathOf(key), "%s (got %s)", want, showValue(t.values[key]))
}

// rejectUnknown adds a mistake for each key that was not read.
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

// table returns the table at key, an empty one if the file has none.
func (t *table) table(key string) *table {
	v, given := t.value(key)
	values, ok := v.(map[string]any)
	if given && !ok {
		t.reject(key, "want a table")
	}
	return &table{reader: t.reader, path: t.pathOf(key), values: values}
}

// tables returns the tables of the list at key. Their paths count from 1.
func (t *table) tables(key string) []*table {
	var tables []*table
	for i, values := range t.listOfTables(key) {
		tables = append(tables, &table{reader: t.reader, path: fmt.Sprintf("%s[%d]", t.pathOf(key), i+1), values: values})
	}
	return tables
}

func (t *table) listOfTables(key string) []map[string]any {
	v, given := t.value(key)
	switch v := v.(type) {
	case []map[string]any: // each [[key]]
		return v
	case []any: // an inline list
		var list []map[string]any
		for _, e := range v {
			values, ok := e.(map[string]any)
			if !ok {
				t.reject(key, "want tables, each [["+key+"]]")
				return nil
			}
			list = append(list, values)
		}
		return list
	}
	if given {
		t.reject(key, "want a list of tables, each [["+key+"]]")
	}
	return nil
}
