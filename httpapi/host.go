package httpapi

import (
	"bytes"
	"slices"
	"strings"

	"patroniglue/node"
)

// HTTP/1.1 requires a Host, and net/http answers 400 without one. But some load balancers
// send checks without it (HAProxy's "option httpchk GET /primary HTTP/1.1" does), a check
// has no use for it, and by 400 every server would be down. So the first request of a
// connection, if it is a check, is answered like one of HTTP/1.0: its version is changed
// before net/http reads it. As the connection ends with the answer, no other request of
// it can be a check without Host.

// maxFirst is how long a check without Host may be. As much of a first request may be
// kept back until it is complete.
const maxFirst = 2 << 10

// readFirst reads the head of the first request, as far as it may be a check without
// Host, and changes its version if it is one. An error comes again with the next read.
func (v *visit) readFirst() {
	head := v.unread
	v.unread = nil
	for mayLackHost(head) {
		var in [maxFirst]byte
		n, err := v.read(in[:])
		head = append(head, in[:n]...)
		if err != nil {
			break
		}
	}
	if at := versionWithoutHost(head); at >= 0 {
		head[at] = '0'
	}
	v.unread = head
}

// mayLackHost reports whether more has to be read to know if a check lacks Host.
func mayLackHost(head []byte) bool {
	if len(head) >= maxFirst || bytes.Contains(head, headersEnd) {
		return false
	}
	line, headers, complete := strings.Cut(string(head), "\r\n")
	switch {
	case strings.Contains(strings.ReplaceAll(string(head), "\r\n", ""), "\n"):
		return false // lines that end otherwise: the end would be missed
	case complete:
		return isCheck(line) && !hasHost(headers)
	}
	return slices.ContainsFunc(checkMethods, func(m string) bool {
		return strings.HasPrefix(line, m[:min(len(m), len(line))])
	})
}

// versionWithoutHost returns where the minor version stands in a complete check of
// HTTP/1.1 without Host; -1 for other requests.
func versionWithoutHost(head []byte) int {
	end := bytes.Index(head, headersEnd)
	if end < 0 || end+len(headersEnd) > maxFirst {
		return -1
	}
	line, headers, _ := strings.Cut(string(head[:end]), "\r\n")
	if !isCheck(line) || hasHost(headers) {
		return -1
	}
	return len(line) - 1
}

// checkMethods are those of checks, with the beginning of the target.
var checkMethods = []string{"GET /", "HEAD /", "OPTIONS /"}

// isCheck reports whether the first line of a request is that of a check in HTTP/1.1.
func isCheck(line string) bool {
	rest, ok := strings.CutSuffix(line, " HTTP/1.1")
	method, target, _ := strings.Cut(rest, " ")
	if !ok || !slices.Contains(checkMethods, method+" /") || !strings.HasPrefix(target, "/") {
		return false
	}
	path, _, _ := strings.Cut(target, "?")
	name := path[strings.LastIndexByte(path, '/')+1:]
	return path == "/" || name == "livez" || name == "readyz" || slices.Contains(checkNames, name)
}

var checkNames = node.CheckNames()

// hasHost reports whether any line could be a Host header, also a malformed one.
func hasHost(headers string) bool {
	for line := range strings.Lines(headers) {
		if name, _, _ := strings.Cut(line, ":"); strings.EqualFold(strings.TrimSpace(name), "Host") {
			return true
		}
	}
	return false
}
