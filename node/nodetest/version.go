package nodetest

import (
	"slices"
	"strconv"
	"strings"
)

// DefaultVersion is the simulated release where none is named.
const DefaultVersion = "4.1.4"

// versions are the releases whose differences are simulated, oldest first: each answers in some way unlike its neighbours.
var versions = []string{"1.6.5", "2.0.2", "2.1.7", "3.0.2", "3.0.4", "3.2.2", "3.3.11", "4.0.10", DefaultVersion, "master"}

// Versions lists the Patroni releases that differ from one another in what they answer, oldest first, for tests that run
// against all of them. "master" is what was merged after the newest release (the replication_state parameter, #3492).
func Versions() []string { return slices.Clone(versions) }

// fullVersion returns the release of a series: "" is the default, "3.3" the newest 3.3 known here, all else stays.
func fullVersion(v string) string {
	if v == "" {
		return DefaultVersion
	}
	for _, known := range slices.Backward(versions) {
		if strings.HasPrefix(known, v+".") {
			return known
		}
	}
	return v
}

// release is a version that can be compared. Missing and unreadable parts count as 0.
type release [3]int

func parseRelease(v string) release {
	v = fullVersion(v)
	if v == "master" {
		return release{1 << 30}
	}
	var r release
	for i, part := range strings.SplitN(v, ".", len(r)) {
		r[i], _ = strconv.Atoi(part)
	}
	return r
}

// since says whether r is the given release or a later one.
func (r release) since(major, minor, patch int) bool {
	return slices.Compare(r[:], []int{major, minor, patch}) >= 0
}

// versionInBody is the version in a document: the master branch has the number of the last release.
func versionInBody(v string) string {
	if v = fullVersion(v); v == "master" {
		return DefaultVersion
	}
	return v
}
