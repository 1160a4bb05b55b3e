package config

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// reader is what reading one file brings, beside its values.
type reader struct {
	readFile func(string) ([]byte, error)
	lines    map[string]int // where a path stands, when the parser tells
	mistakes []mistake
	notes    []string
}

// mistake is what is wrong at a path of the file.
type mistake struct{ path, text string }

func (r *reader) addMistake(path, format string, args ...any) {
	r.mistakes = append(r.mistakes, mistake{path, fmt.Sprintf(format, args...)})
}

// addNote records a remark that is no mistake.
func (r *reader) addNote(path, format string, args ...any) {
	r.notes = append(r.notes, path+": "+fmt.Sprintf(format, args...))
}

// err is all mistakes, one a line, or nil.
func (r *reader) err() error {
	slices.SortStableFunc(r.mistakes, func(a, b mistake) int { return cmp.Compare(r.lineOf(a.path), r.lineOf(b.path)) })
	var errs []error
	for _, m := range r.mistakes {
		text := m.path + ": " + m.text
		if line := r.lineOf(m.path); line != 0 {
			text = fmt.Sprintf("line %d: %s", line, text)
		}
		errs = append(errs, errors.New(text))
	}
	return errors.Join(errs...)
}

// line is where a path, or else the table that lacks it, stands; 0 when unknown.
func (r *reader) lineOf(path string) int {
	for {
		if line, ok := r.lines[path]; ok {
			return line
		}
		dot := strings.LastIndexByte(path, '.')
		if dot < 0 {
			return 0
		}
		path = path[:dot]
	}
}

// userinfo may have a password. None is wanted in any URL, but who gives one reads
// about it in the log, and on the page after a reload.
var userinfo = regexp.MustCompile(`//\S*@`)

// show writes a value for people, on one line.
func showValue(v any) string {
	switch v := v.(type) {
	case nil:
		return "nothing"
	case string:
		const most = 100
		v = userinfo.ReplaceAllString(v, "//...@")
		if runes := []rune(v); len(runes) > most {
			return strconv.Quote(string(runes[:most])) + "..."
		}
		return strconv.Quote(v)
	case bool, int, int64, uint64, float64:
		return fmt.Sprint(v)
	case map[string]any:
		return "a table"
	case []any, []map[string]any:
		return "a list"
	default:
		return "a date or time"
	}
}
