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

// MaxRequest is the length of the longest request line in bytes, without its end.
const MaxRequest = 512

const (
	requestBuffer = MaxRequest + 2 // with the longest end of a line

	// requestIdle is how long a request that has begun may pause. It is below the
	// shortest useful agent-inter, which is also HAProxy's timeout for the answer.
	requestIdle = 100 * time.Millisecond

	// requestTotal bounds the whole request, and the wait for its first byte. A load
	// balancer that is short of processor time, or a network that loses a packet,
	// delays requests: that must not put a primary into MAINT.
	requestTotal = time.Second
)

var (
	errNoRequest   = errors.New(`no request: want agent-send "node/check\n"`)
	errLongRequest = fmt.Errorf("request longer than %d bytes", MaxRequest)
)

// ParseRequest reads the question in a request: "node/check", or
// "cluster/node/check" where node names repeat across clusters, either with
// "?parameters". It reads the first line only, and ignores white space around it. It
// does not know which nodes and checks exist.
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
// whole line. A line ends at LF, CR or NUL, and at a backslash followed by n or r:
// HAProxy sends these two characters for agent-send 'pg1/primary\n', in single
// quotes. None of them can be part of a name.
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

// readRequest reads into buf, which has room for requestBuffer bytes, and returns
// what it has read when that has the whole first line, or is longer than a line may
// be, or when the peer closed its side or paused. A peer may send nothing: HAProxy
// sends nothing without agent-send, and then the answer has to say so. After an error
// the connection is unusable.
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
		case n > MaxRequest && buf[MaxRequest] != '\\': // too long, whatever follows
			return buf[:n], nil
		case errors.Is(err, io.EOF), errors.Is(err, os.ErrDeadlineExceeded):
			return buf[:n], nil
		case err != nil:
			return nil, err
		}
	}
	return buf[:n], nil
}
