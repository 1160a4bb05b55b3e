package config

import "regexp"

var namePattern = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// ValidName reports whether s can be the name of a node, a cluster or a scope: it
// stands as it is in the paths of our HTTP routes, where "." and ".." would be lost.
func ValidName(s string) bool { return namePattern.MatchString(s) && s != "." && s != ".." }

// name reads the name of a node or a cluster.
func (t *table) name(key string, p *string) {
	var s string
	t.text(key, &s)
	if !t.has(key) || !t.isValid(key) {
		return
	}
	if s == "" && key == "cluster" {
		return // the same as not given
	}
	if !ValidName(s) {
		t.reject(key, `want letters, digits, ".", "_" and "-" only, and not "." or ".."`)
		return
	}
	*p = s
}
