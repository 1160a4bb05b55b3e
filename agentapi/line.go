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

// words are what a line says to HAProxy. They always set both the administrative
// state and the health, so that nothing of an earlier answer remains. Words that put
// a server in service set the weight as well. Words that drain it do not: HAProxy 2.6
// would log "remains in forced drain mode" at each answer with a weight.
type words uint8

const (
	readyUp   words = iota // in service
	drainUp                // no new sessions; open ones may finish
	maintDown              // out of service, as expected
	readyDown              // out of service because of a fault

	numWords = iota
)

var wordTexts = [numWords]string{"ready up", "drain up", "maint down", "ready down"}

// wordsFor chooses the words for a verdict. A node that is not known to pass is out
// of service.
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

// AppendLine appends the line for an answer, newline included. It allocates nothing
// when dst has enough room.
func AppendLine(dst []byte, a cluster.Answer) []byte {
	text := a.Verdict.Label
	if text == "" {
		text = a.Verdict.Reason
	}
	return appendLine(dst, wordsFor(a.Check, a.Verdict.Outcome), text)
}

// AppendError appends the line for a question that has no answer: an unknown node, an
// unknown check, a malformed request.
func AppendError(dst []byte, err error) []byte {
	return appendLine(dst, wordsForError(err), err.Error())
}

// wordsForError chooses the words for a question that has no answer. A node that is
// not known yet is a fault, a node that does not exist is not.
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
// HAProxy takes what follows a '#', up to the first LF or CR, as the description.
// A text may quote what a client sent or a node answered: a newline in it could end
// the line early and hide the rest, and an escape sequence would reach the terminals
// on which HAProxy's statistics are read. So white space becomes one space, and every
// other character that is not printable ASCII becomes a '?'.
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
