package haproxy

import (
	"net/netip"
	"regexp"
	"strings"
)

// host writes a host as HAProxy takes it in every place, and records that there are names.
func (b *builder) host(host string) string {
	ip, err := netip.ParseAddr(host)
	switch {
	case err != nil:
		b.file.Named = true
	case ip.Is6():
		return "[" + host + "]"
	}
	return word(host)
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9._:/@,+=~-]+$`)

// word quotes a text that HAProxy would not read as one word.
func word(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
