package agentapi

import (
	"errors"
	"unicode/utf8"

	"patroniglue/cluster"
	"patroniglue/node"
)

// MaxLine is the length of the longest answer in bytes, its newline included.
// HAProxy shows 127 bytes of it, some of them its own.
const MaxLine = 120

// words are what a line tells HAProxy. Each sets the administrative state and
// the health, so nothing of an earlier answer remains. Those that put a server
// in service set the weight as well. For a server that drains HAProxy 2.6 logs
// "remains in forced drain mode" at each answer that has a weight.
type words uint8

const (
	readyUp   words = iota // in service
	drainUp                // no new sessions, open ones may finish
	maintDown              // out of service, and that is nothing to worry about
	readyDown              // out of service, and that is a fault

	numWords = iota
)

var wordTexts = [numWords]string{"ready up", "drain up", "maint down", "ready down"}

// wordsFor chooses the words for a verdict. Whatever is not known to pass is
// out of service.
func wordsFor(c node.Check, o node.Outcome) words {
	switch o {
	case node.Pass:
		return readyUp
	case node.Lagging:
		if !c.Writes() {
			return drainUp
		}
	case node.Finishing:
		return drainUp
	case node.Fault:
		return readyDown
	}
	return maintDown
}

// AppendLine appends the line that answers a, newline included. With enough
// room in dst it allocates nothing.
func AppendLine(dst []byte, a cluster.Answer) []byte {
	text := a.Verdict.Label
	if text == "" {
		text = a.Verdict.Reason
	}
	return appendLine(dst, wordsFor(a.Check, a.Verdict.Outcome), text)
}

// AppendError appends the line that answers a question that cannot be
// answered: an unknown node, an unknown check, a malformed request.
func AppendError(dst []byte, err error) []byte {
	return appendLine(dst, wordsForError(err), err.Error())
}

// wordsForError: that a node is not known yet is a fault, that there is none is not.
func wordsForError(err error) words {
	if e, ok := errors.AsType[*cluster.UnknownError](err); ok && e.Pending != "" {
		return readyDown
	}
	return maintDown
}

func appendLine(dst []byte, w words, text string) []byte {
	end := len(dst) + MaxLine - len("\n")
	dst = append(dst, wordTexts[w]...)
	if w == readyUp {
		dst = append(dst, " 100%"...)
	}
	dst = append(dst, " #"...)
	dst = appendDescription(dst, text, end-len(dst))
	return append(dst, '\n')
}

// appendDescription appends text in at most size bytes of printable ASCII.
// HAProxy takes what follows a '#' as description up to the first LF or CR,
// and texts may quote what a client sent or a node answered: a newline in one
// could end the line early and hide the rest, an escape sequence would reach
// the terminal of whoever reads HAProxy's statistics. So white space becomes
// one space, and every other character that is not printable ASCII a '?'.
func appendDescription(dst []byte, text string, size int) []byte {
	const ellipsis = "..."
	var (
		start = len(dst)
		limit = start + size
		cut   = start // where to cut: the end of the last word that leaves room for the ellipsis
		space = false // seen, not yet written
	)
	for _, r := range text {
		switch {
		case r == ' ' || '\t' <= r && r <= '\r' || r == '\u0085' || r == '\u00a0' || r == '\u2028' || r == '\u2029':
			space = len(dst) > start
			continue
		case r < '!' || r > '~': // also utf8.RuneError
			r = '?'
		}
		if space {
			if len(dst)+len(ellipsis) <= limit {
				cut = len(dst)
			}
			if len(dst) < limit {
				dst = append(dst, ' ')
			}
			space = false
		}
		if len(dst) >= limit {
			if cut-start < size/2 { // one very long word: part of it says more than nothing
				cut = limit - len(ellipsis)
			}
			return append(dst[:cut], ellipsis...)
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}
