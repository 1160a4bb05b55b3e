package httpapi

import (
	"bytes"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/listen"
)

// This file is the fast path for checks. A fast request is one that can be answered
// without net/http, in a single write, and the bytes written are those that net/http
// and the routes would write (FuzzFast compares the two). net/http gets all other
// requests. Fast are the few forms of request that health checkers send: this is not
// a parser of HTTP.
//
// "go run ./contrib/bench/checks" measures the gain, as the difference between the
// variants ours and nethttp. fast-checks = false in [frontend] switches it off.

// fastRequest is a fast request: a check of one node.
type fastRequest struct {
	question cluster.Question
	body     bool   // the answer has a body: to GET, not to HEAD and OPTIONS
	length   string // the Content-Length header of an answer without a body
	http10   bool
	ends     bool // the connection is closed after the answer
	noHost   bool // it is HTTP/1.1 without Host, which is answered like HTTP/1.0 (host.go)
}

// parseFast reads a request; ok is false unless it is a fast one. A fast request
// is complete, has nothing behind it, and is of HTTP's simplest form: GET, HEAD or
// OPTIONS of a node's check, names and parameters without escapes, CRLF after every
// line, and only headers that cannot change the answer.
func parseFast(request string) (p fastRequest, ok bool) {
	head, ok := strings.CutSuffix(request, "\r\n\r\n")
	if !ok {
		return p, false
	}
	line, headers, more := strings.Cut(head, "\r\n")
	method, rest, _ := strings.Cut(line, " ")
	target, proto, _ := strings.Cut(rest, " ")
	switch method {
	case http.MethodGet:
		p.body = true
	case http.MethodOptions:
		p.length = "Content-Length: 0\r\n"
	case http.MethodHead:
	default:
		return p, false
	}
	switch proto {
	case "HTTP/1.1":
	case "HTTP/1.0":
		p.http10, p.ends = true, true
	default:
		return p, false
	}
	if p.question, ok = fastTarget(target); !ok {
		return p, false
	}
	var host, connection bool
	for more {
		line, headers, more = strings.Cut(headers, "\r\n")
		name, value, ok := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		if !ok || !consists(value, headerBytes) {
			return p, false
		}
		switch {
		case strings.EqualFold(name, "Host"):
			if host || value == "" || !consists(value, hostBytes) {
				return p, false
			}
			host = true
		case strings.EqualFold(name, "Connection"):
			if connection || p.http10 && value != "close" || value != "close" && value != "keep-alive" {
				return p, false
			}
			connection = true
			p.ends = value == "close" || p.http10
		case strings.EqualFold(name, "User-Agent"), strings.EqualFold(name, "Accept"), strings.EqualFold(name, "Accept-Encoding"):
		default:
			return p, false
		}
	}
	if !host && !p.http10 {
		if connection && !p.ends || len(request) > maxFirst {
			return p, false // keep-alive of HTTP/1.0 has another answer
		}
		p.noHost, p.http10, p.ends = true, true, true
	}
	return p, true
}

// fastTarget reads /node/{node}/{check} and /cluster/{cluster}/node/{node}/{check}.
func fastTarget(target string) (q cluster.Question, ok bool) {
	target, q.Query, ok = strings.Cut(target, "?")
	if ok && (q.Query == "" || !consists(q.Query, queryBytes)) {
		return q, false
	}
	rest, ok := strings.CutPrefix(target, "/cluster/")
	if ok {
		if q.Cluster, rest, _ = strings.Cut(rest, "/"); !fastName(q.Cluster) {
			return q, false
		}
		rest, ok = strings.CutPrefix(rest, "node/")
	} else {
		rest, ok = strings.CutPrefix(target, "/node/")
	}
	if !ok {
		return q, false
	}
	q.Node, q.Check, _ = strings.Cut(rest, "/")
	return q, fastName(q.Node) && fastName(q.Check)
}

// fastName reports whether a name in a path needs no escape, and is not "." or "..".
func fastName(s string) bool { return consists(s, nameBytes) && strings.Trim(s, ".") != "" }

// byteSet is a set of ASCII characters.
type byteSet [128]bool

const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

var (
	nameBytes   = setOf(letters + "._-")
	queryBytes  = setOf(letters + "._-=&")
	hostBytes   = setOf(letters + "._-:[]")
	headerBytes = setOf(letters + "._-:[]" + " */()+,;=")
)

func setOf(bytes string) *byteSet {
	set := new(byteSet)
	for _, b := range []byte(bytes) {
		set[b] = true
	}
	return set
}

func consists(s string, set *byteSet) bool {
	for i := range len(s) {
		if s[i] >= 128 || !set[s[i]] {
			return false
		}
	}
	return true
}

// AnswerFast is a [listen.Answer] for connections that bring one fast request and
// end with it.
func (s *Server) AnswerFast(peer netip.AddrPort, request, out []byte) []byte {
	settings := s.settings.Load()
	if settings.TLS != nil || !listen.Allows(settings.Allow, peer.Addr()) {
		return nil
	}
	p, ok := parseFast(string(request))
	if !ok || !p.ends {
		return nil
	}
	return s.appendFast(out, &p)
}

// appendFast appends the answer. It returns nil where net/http has to answer: the
// supervisor would have to wait for the answer, or the question is invalid.
func (s *Server) appendFast(out []byte, p *fastRequest) []byte {
	a, ok := s.sup.AskNow(p.question)
	if !ok {
		return nil
	}
	s.served.count(a.Check.Ask, a.Verdict.Passes())
	version := "HTTP/1.1 "
	if p.http10 {
		version = "HTTP/1.0 "
	}
	out = append(out, version...)
	if a.Verdict.Passes() {
		out = append(out, "200 OK\r\n"...)
	} else {
		out = append(out, "503 Service Unavailable\r\n"...)
	}
	out = append(out, "Cache-Control: no-store\r\n"...)
	var body []byte
	if p.body {
		buf := buffers.Get().(*bytes.Buffer)
		defer buffers.Put(buf)
		buf.Reset()
		appendAnswer(buf, &a)
		body = Printable(buf.Bytes())
		out = append(out, "Content-Length: "...)
		out = strconv.AppendInt(out, int64(len(body)), 10)
		out = append(out, "\r\n"...)
	}
	out = append(out, "Content-Type: application/json\r\nX-Content-Type-Options: nosniff\r\nDate: "...)
	out = appendDate(out, a.At)
	out = append(out, "\r\n"...)
	out = append(out, p.length...)
	if p.ends && !p.http10 {
		out = append(out, "Connection: close\r\n"...)
	}
	out = append(out, "\r\n"...)
	return append(out, body...)
}

// date is a second in the form of HTTP's Date header.
type date struct {
	unix int64
	text string
}

var lastDate atomic.Pointer[date]

func appendDate(out []byte, now time.Time) []byte {
	d := lastDate.Load()
	if d == nil || d.unix != now.Unix() {
		d = &date{now.Unix(), now.UTC().Format(http.TimeFormat)}
		lastDate.Store(d)
	}
	return append(out, d.text...)
}
