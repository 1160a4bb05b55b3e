package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Kind is the reason of a failed poll in one word, for metrics and for the decision
// what follows from the failure.
type Kind string

// The kinds of failed polls.
const (
	KindRefused  Kind = "refused"   // connection refused: nothing listens
	KindReset    Kind = "reset"     // connection reset before an answer
	KindNoRoute  Kind = "no_route"  // host or network unreachable: says more about our own network than about the member
	KindTimeout  Kind = "timeout"   // no complete answer in time
	KindDNS      Kind = "dns"       // the name does not resolve
	KindTLS      Kind = "tls"       // handshake or certificate
	KindStatus   Kind = "status"    // neither 200 nor 503
	KindTooLarge Kind = "too_large" // more than 1 MiB
	KindCut      Kind = "cut"       // the connection ended before the answer did
	KindDocument Kind = "document"  // not a document of Patroni
	KindOther    Kind = "other"

	KindNotBelieved Kind = "not_believed" // another supervisor answers, which knows that the member is not there
	KindNotKnown    Kind = "not_known"    // another supervisor answers, which has no fresh answer of the member and no proof either
)

// Kinds lists every kind, in a fixed order.
var Kinds = []Kind{KindRefused, KindReset, KindNoRoute, KindTimeout, KindDNS, KindTLS, KindStatus, KindTooLarge, KindCut, KindDocument, KindNotBelieved, KindNotKnown, KindOther}

// Failure says why a poll brought no answer. It is data about the member, not an error
// of the program.
type Failure struct {
	Kind Kind
	Err  error

	// Unconnected says that the time was over before there was a connection: the poll
	// has occupied none of Patroni's few workers.
	Unconnected bool
}

func (f *Failure) Error() string { return printable(f.Err.Error()) }
func (f *Failure) Unwrap() error { return f.Err }

// Hard reports whether the failure proves that Patroni does not run there: the member's
// own host has answered. A member that hangs may still be primary, and so may one to
// which there is no route: the router that says so, often our own kernel, knows nothing
// of the member, and connections that clients have survive a short gap.
func (f *Failure) Hard() bool { return f.Kind == KindRefused || f.Kind == KindReset }

// noAnswer replaces "context deadline exceeded", which does not help an operator.
type noAnswer struct {
	timeout time.Duration
	doing   string // the step that took so long, "" = waiting for the answer
}

func (e noAnswer) Error() string {
	text := "no answer within " + e.timeout.String()
	if e.doing != "" {
		text += ": " + e.doing
	}
	return text
}

func (e noAnswer) Timeout() bool { return true }

// step is the present step of a poll before it can send its request.
type step struct {
	doing     atomic.Pointer[string]
	connected bool // owned by the goroutine that connects
}

func (s *step) begins(doing string) { s.doing.Store(&doing) }

// tracing returns a context with which a dial records its steps in s.
func (s *step) tracing(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(i httptrace.DNSStartInfo) { s.begins("looking up " + i.Host) },
		ConnectStart: func(_, addr string) { s.begins("connecting to " + addr) },
	})
}

// explain adds the present step to an error.
func (s *step) explain(err error) error {
	e := stepError{error: err, unconnected: !s.connected}
	if doing := s.doing.Load(); doing != nil {
		e.doing = *doing
	}
	return e
}

type stepError struct {
	error
	doing       string
	unconnected bool
}

func (e stepError) Unwrap() error { return e.error }

// newFailure finds the kind of an error of the HTTP client.
func newFailure(err error, timeout time.Duration) *Failure {
	if f, ok := errors.AsType[*Failure](err); ok {
		return f
	}
	on, _ := errors.AsType[stepError](err)
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err // drops "Get \"http://...\": ", which the reader already knows
	}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		err = op // drops net/http's "readLoopPeekFailLocked: ", which only some of its errors have
	}
	kind := KindOther
	var (
		dns      *net.DNSError
		netErr   net.Error
		record   tls.RecordHeaderError
		hostname x509.HostnameError
		verify   *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &dns):
		kind = KindDNS
		if dns.IsTimeout {
			kind = KindTimeout
		}
	case errors.Is(err, syscall.ECONNREFUSED):
		kind = KindRefused
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		kind = KindReset
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH),
		errors.Is(err, syscall.EHOSTDOWN), errors.Is(err, syscall.ENETDOWN):
		kind = KindNoRoute
	case errors.As(err, &hostname):
		kind, err = KindTLS, wrongName(&hostname)
	case errors.As(err, &record), errors.As(err, &verify), errors.Is(err, http.ErrSchemeMismatch),
		strings.Contains(err.Error(), "tls: "): // TLS alerts of the peer have no exported type
		kind = KindTLS
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded),
		errors.As(err, &netErr) && netErr.Timeout():
		kind = KindTimeout
		if _, dialing := errors.AsType[*net.OpError](err); !dialing {
			err = noAnswer{timeout, on.doing}
		}
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		kind, err = KindCut, errors.New("the connection was closed before the answer was complete")
	}
	return &Failure{Kind: kind, Err: err, Unconnected: kind == KindTimeout && on.unconnected}
}
