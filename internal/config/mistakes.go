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

// reader is the state of reading one file, shared by its tables.
type reader struct {
	readFile func(string) ([]byte, error) // reads the files that the file names
	lines    map[string]int               // by path, where the parser gives lines
	mistakes []mistake
	notes    []string
}

// mistake is what is wrong at a path of the file, such as node[1].name.
type mistake struct{ path, text string }

// addMistake records what is wrong at path. All mistakes together are the error.
func (r *reader) addMistake(path, format string, args ...any) {
	r.mistakes = append(r.mistakes, mistake{path, fmt.Sprintf(format, args...)})
}

// addNote records a remark that is no mistake.
func (r *reader) addNote(path, format string, args ...any) {
	r.notes = append(r.notes, path+": "+fmt.Sprintf(format, args...))
}

// err returns all mistakes, one a line and in the order of the lines of the file where
// they are known, or nil.
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

// lineOf returns the line of path or else of the table that lacks it; 0 when unknown.
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

// userinfo is the part of a URL that may have a password. We want none in any URL, but
// a file may give one, and messages come to the log and to the page.
var userinfo = regexp.MustCompile(`//\S*@`)

// showValue writes a value for people, on one line.
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
