package haproxy

import (
	"net/netip"
	"regexp"
	"strings"
)

// host writes an address as HAProxy takes it in every place, and notes names.
func (f *file) host(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		f.Named = true
	case ip.Is6():
		return "[" + host + "]"
	}
	return word(host)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9._:/@,+=~-]+$`)

// haproxyWord quotes what HAProxy would not read as one word.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
