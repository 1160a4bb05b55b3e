package node

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

var units = []struct {
	name  string
	bytes int64
}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"kB", 1 << 10}, {"B", 1}, {"", 1}}

// ParseSize parses a number of bytes as in Patroni's lag= (utils.py parse_int): an
// integer or a decimal with B, kB, MB, GB or TB, each 1024 of the unit before, or a
// hexadecimal number such as 0x10 without a unit. Unlike in Patroni, the case of the
// unit does not matter, and an unreadable size is an error, not "no limit".
func ParseSize(s string) (int64, error) {
	text := strings.TrimSpace(s)
	if len(text) > 2 && strings.EqualFold(text[:2], "0x") { // without a unit: in 0x1b the b is a digit
		if n, err := strconv.ParseUint(text[2:], 16, 63); err == nil {
			return int64(n), nil
		}
	}
	for _, u := range units {
		at := len(text) - len(u.name)
		if at < 0 || !strings.EqualFold(text[at:], u.name) {
			continue
		}
		num := strings.TrimSpace(text[:at])
		if n, err := strconv.ParseUint(num, 10, 63); err == nil && n <= math.MaxInt64/uint64(u.bytes) {
			return int64(n) * u.bytes, nil
		}
		f, err := strconv.ParseFloat(num, 64)
		if f *= float64(u.bytes); err == nil && f < math.MaxInt64 && strings.Trim(num, "0123456789.") == "" {
			return int64(f), nil
		}
		break
	}
	return 0, fmt.Errorf("want bytes such as 1048576, 16kB, 1.5MB or 2GB (got %q)", s)
}

// FormatSize formats a number of bytes for display, such as "212 MB".
func FormatSize(n int64) string {
	for _, u := range units[:4] {
		if n >= 10*u.bytes {
			return strconv.FormatInt(n/u.bytes, 10) + " " + u.name
		}
		if n >= u.bytes {
			return strconv.FormatFloat(float64(n)/float64(u.bytes), 'f', 1, 64) + " " + u.name
		}
	}
	return strconv.FormatInt(n, 10) + " B"
}
