package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// httpAnswer is an answer as it came.
type httpAnswer struct {
	Status int
	header []string // names, sorted
	Body   []byte
}

// Ask sends one request over a connection of its own, as it stands: neither
// Go's client nor its URLs take everything that Patroni answers.
func (e *Cluster) Ask(addr, method, target string) (httpAnswer, error) {
	fail := func(err error) (httpAnswer, error) {
		return httpAnswer{}, fmt.Errorf("%s %s of %s: %w", method, target, addr, err)
	}
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return fail(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return fail(err)
	}
	if _, err := fmt.Fprintf(conn, "%s %s HTTP/1.0\r\nHost: %s\r\n\r\n", method, target, addr); err != nil {
		return fail(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		return fail(err)
	}
	head, body, ok := bytes.Cut(raw, []byte("\r\n\r\n"))
	if !ok {
		return fail(fmt.Errorf("no answer but %q", raw))
	}
	lines := strings.Split(string(head), "\r\n")
	a := httpAnswer{Body: body}
	fields := strings.Fields(lines[0])
	if len(fields) < 2 || !strings.HasPrefix(fields[0], "HTTP/1.") {
		return fail(fmt.Errorf("no status in %q", lines[0]))
	}
	if a.Status, err = strconv.Atoi(fields[1]); err != nil {
		return fail(err)
	}
	for _, line := range lines[1:] {
		name, _, _ := strings.Cut(line, ":")
		a.header = append(a.header, name)
	}
	slices.Sort(a.header)
	return a, nil
}

func (e *Cluster) Must(t *testing.T, addr, method, target string) httpAnswer {
	t.Helper()
	a, err := e.Ask(addr, method, target)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// Reason is that in our answer to a check.
func (a httpAnswer) Reason(t *testing.T) string {
	t.Helper()
	var body struct {
		Patroniglue struct{ Reason string } `json:"patroniglue"`
	}
	if err := json.Unmarshal(a.Body, &body); err != nil || body.Patroniglue.Reason == "" {
		t.Errorf("no reason in the answer (%v): %s", err, a.Body)
	}
	return body.Patroniglue.Reason
}

// answerForm is all of an answer that does not change from one moment to another.
type answerForm struct {
	Status int
	Header []string
	Body   map[string]string // the type at each path of the JSON
}

func (a httpAnswer) Form() answerForm {
	f := answerForm{Status: a.Status, Header: a.header, Body: make(map[string]string)}
	var v any
	switch {
	case len(a.Body) == 0:
		f.Body[""] = "none"
	case json.Unmarshal(a.Body, &v) != nil:
		f.Body[""] = "no JSON"
	default:
		formOf(v, "", f.Body)
	}
	return f
}

func formOf(v any, path string, out map[string]string) {
	kind := ""
	switch v := v.(type) {
	case nil:
		kind = "null"
	case bool:
		kind = "bool"
	case float64:
		kind = "number"
	case string:
		kind = "string"
	case []any:
		kind = "array"
		for _, item := range v {
			formOf(item, path+"[]", out)
		}
	case map[string]any:
		kind = "object"
		for key, item := range v {
			formOf(item, path+"."+key, out)
		}
	}
	if was, ok := out[path]; ok && was != kind { // items of an array that differ
		kinds := append(strings.Split(was, " or "), kind)
		slices.Sort(kinds)
		kind = strings.Join(slices.Compact(kinds), " or ")
	}
	out[path] = kind
}

// AskAgent asks as HAProxy does and gives the line without its end.
func (e *Cluster) AskAgent(question string) (string, error) {
	conn, err := net.DialTimeout("tcp", e.Lab.Agent, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(conn, question+"\n"); err != nil {
		return "", fmt.Errorf("asking the agent %q: %w", question, err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("asking the agent %q: %w", question, err)
	}
	return strings.TrimSuffix(line, "\n"), nil
}
