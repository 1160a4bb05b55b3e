package agentapi

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
	"unicode"

	"patroniglue/cluster"
)

// MaxRequest is the length of the longest request line in bytes, without what
// ends it.
const MaxRequest = 512

const (
	requestBuffer = MaxRequest + 2         // and the longest end
	requestIdle   = 100 * time.Millisecond // below the shortest useful agent-inter, which is HAProxy's timeout for the answer too
	requestTotal  = time.Second            // for all of it, and for its first byte: one that is late, from a load balancer without a processor or over a network that lost a packet, must not make a primary MAINT
)

var (
	errNoRequest   = errors.New(`no request: want agent-send "node/check\n"`)
	errLongRequest = fmt.Errorf("request longer than %d bytes", MaxRequest)
)

// ParseRequest reads the question in a request: "node/check", or
// "cluster/node/check" where node names repeat across clusters, either with
// "?parameters". It looks at the first line only; white space around it does
// not count. Which nodes and checks there are it does not know.
func ParseRequest(request []byte) (cluster.Question, error) {
	if n := requestEnd(request); n >= 0 {
		request = request[:n]
	}
	if len(request) > MaxRequest {
		return cluster.Question{}, errLongRequest
	}
	line := bytes.TrimSpace(request)
	if len(line) == 0 {
		return cluster.Question{}, errNoRequest
	}
	path, query, _ := bytes.Cut(line, []byte("?"))
	first, rest, ok := bytes.Cut(path, []byte("/"))
	second, third, three := bytes.Cut(rest, []byte("/"))
	if !ok || len(first) == 0 || len(second) == 0 || three && (len(third) == 0 || bytes.IndexByte(third, '/') >= 0) || bytes.ContainsFunc(path, unicode.IsSpace) {
		return cluster.Question{}, fmt.Errorf("malformed request: want node/check or cluster/node/check (got %q)", line)
	}
	if three {
		return cluster.Question{Cluster: string(first), Node: string(second), Check: string(third), Query: string(query)}, nil
	}
	return cluster.Question{Node: string(first), Check: string(second), Query: string(query)}, nil
}

// requestEnd returns the length of the first line in b, or -1 when b has no
// whole line. A line ends at LF, CR or NUL, and at a backslash with an n or r
// behind it: that is what HAProxy sends for agent-send 'pg1/primary\n', in
// single quotes. None of these can be part of a name.
func requestEnd(b []byte) int {
	for i, c := range b {
		switch c {
		case '\n', '\r', 0:
			return i
		case '\\':
			if i+1 < len(b) && (b[i+1] == 'n' || b[i+1] == 'r') {
				return i
			}
		}
	}
	return -1
}

// readRequest reads into buf, which has room for requestBuffer bytes, and
// returns what came: at least the first line, or more than a line may have, or
// all there was when the peer closed its side, or paused after it had begun. A
// peer may well send nothing: without agent-send HAProxy does not, and then waits
// for an answer that should say so. An error means that the connection is of no use any more.
func readRequest(conn net.Conn, buf []byte) ([]byte, error) {
	end := time.Now().Add(requestTotal)
	n := 0
	for n < len(buf) {
		pause := time.Now().Add(requestIdle)
		if n == 0 || pause.After(end) {
			pause = end
		}
		if err := conn.SetReadDeadline(pause); err != nil {
			return nil, err
		}
		m, err := conn.Read(buf[n:])
		n += m
		switch {
		case requestEnd(buf[:n]) >= 0:
			return buf[:n], nil
		case n > MaxRequest && buf[MaxRequest] != '\\': // nothing that follows can make it a line
			return buf[:n], nil
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return buf[:n], nil
		case err != nil:
			return nil, err
		}
	}
	return buf[:n], nil
}
