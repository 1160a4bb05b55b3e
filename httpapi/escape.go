package httpapi

import (
	"fmt"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Printable escapes characters in JSON that must not reach a terminal or a log
// unchanged: control characters above ASCII, which encoding/json does not escape,
// marks of text direction, invalid UTF-8. The JSON stays equivalent. JSON that needs no
// escape is returned itself.
func Printable(json []byte) []byte {
	for i, c := range json {
		if c > '~' || c == '\r' {
			return appendPrintable(append(make([]byte, 0, len(json)+64), json[:i]...), json[i:])
		}
	}
	return json
}

func appendPrintable(out, json []byte) []byte {
	for len(json) > 0 {
		r, size := utf8.DecodeRune(json)
		switch {
		case r == '\r': // between values: inside a string it is escaped already
			out = append(out, ' ')
		case r <= '~', unicode.IsPrint(r) && (r != utf8.RuneError || size > 1):
			out = append(out, json[:size]...)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			out = fmt.Appendf(out, `\u%04x\u%04x`, high, low)
		default:
			out = fmt.Appendf(out, `\u%04x`, r)
		}
		json = json[size:]
	}
	return out
}
