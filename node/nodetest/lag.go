package nodetest

import (
	"cmp"
	"math"
	"regexp"
	"strconv"
	"strings"
)

// The number at the front of a lag: utils.py's strtol knows hexadecimal, octal and decimal in this order, strtod floats.
var (
	hexRE   = regexp.MustCompile(`^[-+]?0x[0-9a-fA-F]+`)
	octRE   = regexp.MustCompile(`^[-+]?0[0-7]*`)
	decRE   = regexp.MustCompile(`^[-+]?[1-9][0-9]*`)
	floatRE = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+([eE][-+]?[0-9]+)?`)
)

// units are bytes per unit and the unit below, to which a fraction is rounded: 1.5kB is 1536, 0.0001MB is 0.
var units = map[string]struct{ bytes, round float64 }{
	"B":  {1, 0}, // 0: rounded at the end only
	"kB": {1 << 10, 1},
	"MB": {1 << 20, 1 << 10},
	"GB": {1 << 30, 1 << 20},
	"TB": {1 << 40, 1 << 30},
}

// parseBytes parses a size as Patroni's parse_int(value, 'B') does (utils.py); ok is false where that returns None. Units are
// case-sensitive, spaces may stand around them, "010" is octal, and 0.5 bytes are 0 because Python rounds to even.
func parseBytes(value string) (n int64, ok bool) {
	value = strings.TrimSpace(value)
	num, unit, ok := leadingInt(value)
	if !ok && strings.HasPrefix(unit, ".") || unit != "" && strings.ContainsRune(".eE", rune(unit[0])) {
		num, unit, ok = leadingFloat(value)
	}
	if !ok {
		return 0, false
	}
	if unit = strings.TrimSpace(unit); unit != "" {
		u, known := units[unit]
		if !known {
			return 0, false
		}
		num *= u.bytes
		if u.round > 0 {
			num = math.RoundToEven(num/u.round) * u.round
		}
	}
	if math.IsInf(num, 0) { // Python: OverflowError, which parse_int turns into None
		return 0, false
	}
	return clamp(math.RoundToEven(num)), true
}

func leadingInt(value string) (num float64, rest string, ok bool) {
	for _, form := range []struct {
		re   *regexp.Regexp
		base int
	}{{hexRE, 16}, {octRE, 8}, {decRE, 10}} {
		if m := form.re.FindString(value); m != "" {
			digits := m
			if form.base == 16 {
				digits = strings.Replace(m, "0x", "", 1)
			}
			// Beyond int64 ParseInt gives the nearest one; the same as no limit, as Python's endless integers are.
			i, _ := strconv.ParseInt(digits, form.base, 64)
			return float64(i), value[len(m):], true
		}
	}
	return 0, value, false
}

func leadingFloat(value string) (num float64, rest string, ok bool) {
	m := floatRE.FindString(value)
	if m == "" {
		return 0, value, false
	}
	num, _ = strconv.ParseFloat(m, 64) // out of range is ±Inf, as Python's float()
	return num, value[len(m):], true
}

func clamp(f float64) int64 {
	switch {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64:
		return math.MinInt64
	}
	return int64(f)
}

// lagLimit is the limit that a query sets; without one, or with one that Patroni cannot read, it is orElse.
func lagLimit(query params, orElse int64) int64 {
	n, ok := parseBytes(query["lag"])
	if !ok {
		return orElse
	}
	return n
}

// orZero is the value of a position, 0 if it is null.
func orZero(p *int64) int64 { return *cmp.Or(p, new(int64)) }
