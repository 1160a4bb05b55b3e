package haproxy

import (
	"iter"
	"strings"
)

// lintWord is an argument after quotes and escapes.
type lintWord struct {
	text   string
	single bool // it was in single quotes
}

// lines yields the number and the words of every line that has words. It joins lines at
// a backslash, which people mean by it; HAProxy does not.
func (l *lint) lines(text string) iter.Seq2[int, []lintWord] {
	return func(yield func(int, []lintWord) bool) {
		lines := strings.Split(text, "\n")
		for i := 0; i < len(lines); i++ {
			number, line := i+1, strings.TrimSuffix(lines[i], "\r")
			words, open := lintWords(line)
			for open && i+1 < len(lines) {
				l.warn(i+1, "a backslash at the end of the line", "HAProxy does not join lines, it refuses the file")
				i++
				line = strings.TrimSuffix(line, `\`) + strings.TrimSuffix(lines[i], "\r")
				words, open = lintWords(line)
			}
			if len(words) == 0 || strings.HasPrefix(words[0].text, ".") { // .if and the like: both branches count
				continue
			}
			if !yield(number, words) {
				return
			}
		}
	}
}

// lintWords splits a line as HAProxy does; open means that it ends in a backslash that
// escapes nothing.
func lintWords(line string) (words []lintWord, open bool) {
	var b strings.Builder
	var quote byte
	inWord, single := false, false
	flush := func() {
		if inWord {
			words = append(words, lintWord{b.String(), single})
		}
		b.Reset()
		inWord, single = false, false
	}
scan:
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord, single = c, true, single || c == '\''
		case quote == 0 && c == '#':
			break scan
		case quote == 0 && (c == ' ' || c == '\t'):
			flush()
		case c == '\\' && quote != '\'':
			inWord = true
			if i+1 == len(line) {
				open = true
				break scan
			}
			i++
			switch next := line[i]; next {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case ' ', '#', '\\', '"', '\'', '$':
				b.WriteByte(next)
			default:
				b.WriteByte(c)
				b.WriteByte(next)
			}
		default:
			inWord = true
			b.WriteByte(c)
		}
	}
	flush()
	return words, open
}

func joinWords(words []lintWord) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	return strings.Join(texts, " ")
}
