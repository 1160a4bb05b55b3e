package faults

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"patroniglue/test/harness"
)

// hostileWords are what a node that somebody took over might say of itself; evil is
// in all of them.
var hostileWords = map[string]string{
	"HTML":          `evil<script>alert(1)</script>"'><img src=x onerror=alert(1)>`,
	"ANSI":          "evil\x1b[2J\x1b]0;title\x07",
	"C1":            "evil\u009b31m\u0085\u009d0;title\u009c",
	"newlines":      "evil\r\nready up 100%\n\ndata: x\nevil_metric 1",
	"invalid UTF-8": "evil\xff\xfe\xc3(",
	"directions":    "evil\u202eabc\u2066\u2028\u2029\u200b\ufeff",
	"NUL":           "evil\x00\x7f",
	"long":          strings.Repeat("evil ", 8000),
	"formats":       `evil %s%n {{.}} ${x} $(id) | x=1;;; \" \u0000`,
}

// hostileDocument has the words wherever a node can put words. Invalid bytes stay
// what they are.
func hostileDocument(words string) []byte {
	quoted, _ := json.Marshal(words) // a string always marshals
	if !utf8.ValidString(words) {
		quoted = []byte(`"` + words + `"`)
	}
	w := string(quoted)
	return fmt.Appendf(nil, `{"state":%[1]s,"role":%[1]s,"timeline":1,"server_version":150020,"replication_state":%[1]s,"database_system_identifier":%[1]s,
"tags":{%[1]s:%[1]s,"list":[%[1]s]},%[1]s:%[1]s,"dcs_last_seen":1,"xlog":{"replayed_timestamp":%[1]s},"pending_restart_reason":{%[1]s:%[1]s},
"patroni":{"version":%[1]s,"scope":%[1]s,"name":%[1]s}}`, w)
}

// What a node says reaches page, log, agent line, metrics, history and terminals as
// text, and as nothing else. Here are all outputs, and all that is bad; how each
// one looks is tested beside its code.
func TestHostileNode(t *testing.T) {
	for name, words := range hostileWords {
		for _, where := range []string{"document", "member", "answer"} {
			t.Run(name+" in "+where, func(t *testing.T) {
				t.Parallel()
				testHostileNode(t, words, where)
			})
		}
	}
}

func testHostileNode(t *testing.T, words, where string) {
	hostile := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		document := hostileDocument(words)
		switch where {
		case "member": // believed, but for who it is and what it does
			quoted, _ := json.Marshal(words)
			document = fmt.Appendf(nil, `{"state":"running","role":"replica","timeline":1,"tags":{%[1]s:%[1]s,"nofailover":%[1]s},"replication_state":%[1]s,"patroni":{"version":%[1]s,"scope":"main","name":"pg2"}}`, quoted)
		case "answer": // no document at all
			document = []byte(words)
			w.Header().Set("Content-Type", "text/html; "+strings.Map(printableOrSpace, words))
		}
		w.WriteHeader(503)
		w.Write(document)
	}))
	t.Cleanup(hostile.Close)
	sim := harness.NewSimulated(t, "pg1")
	historyFile := filepath.Join(t.TempDir(), "history.jsonl")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[agent]\nlisten = '127.0.0.1:0'\n[history]\nfile = '"+historyFile+"'\n"+harness.FastPolls+harness.NodesOf(sim, "")+
		"[[node]]\nname = 'pg2'\ncluster = 'main'\nurl = '"+hostile.URL+"'\n", "-debug")
	time.Sleep(200 * time.Millisecond) // some more polls: what repeats is logged otherwise

	get := func(path string) string {
		t.Helper()
		_, body := harness.Ask(t, nil, "GET", "http://"+p.HTTP+path)
		return body
	}
	printed := func(args ...string) string {
		t.Helper()
		_, stdout, stderr := p.Command(t, args...)
		return stdout + stderr
	}
	var said bool // anywhere: else nothing was tested
	text := func(what, s string) {
		t.Helper()
		said = said || strings.Contains(s, "evil") || where == "answer"
		if s == "" || !utf8.ValidString(s) {
			t.Errorf("%s is not UTF-8: %.200q", what, s)
		}
		if i := strings.IndexFunc(s, func(r rune) bool { return r != '\n' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) }); i >= 0 {
			t.Errorf("%s steers who reads it: %.100q", what, s[max(0, i-60):])
		}
		if len(s) > 1<<20 {
			t.Errorf("%s has %d bytes", what, len(s))
		}
	}
	document := func(what, s string) {
		t.Helper()
		text(what, s)
		for line := range strings.Lines(s) {
			if !json.Valid([]byte(line)) && !json.Valid([]byte(s)) {
				t.Errorf("%s is no JSON: %.200q", what, line)
				return
			}
		}
	}

	for _, path := range []string{"/", "/ui/main", "/?q=pg2"} {
		page := get(path)
		text(path, page)
		if strings.Contains(page, "<script>") || strings.Contains(page, "<img") || strings.Contains(page, "onerror=alert(1)>") {
			t.Errorf("%s has a node's HTML", path)
		}
	}
	for _, path := range []string{"/node/pg2", "/node/pg2/primary", "/node/pg2/replica", "/node/pg2/patroni", "/cluster", "/patroni", "/primary", "/health", "/history"} {
		document(path, get(path))
	}
	for _, path := range []string{"/ui/main/live", "/events?cluster=main&since=1h"} {
		resp, err := http.Get("http://" + p.HTTP + path)
		if err != nil {
			t.Fatal(err)
		}
		first := make([]byte, 64<<10)
		n, err := io.ReadAtLeast(resp.Body, first, 1)
		resp.Body.Close()
		if resp.StatusCode == 200 && err != nil {
			t.Errorf("%s: %v", path, err)
		}
		text(path, string(first[:n]))
		for line := range bytes.Lines(first[:n]) {
			if bytes.HasPrefix(line, []byte("ready up")) || bytes.HasPrefix(line, []byte("evil")) {
				t.Errorf("%s has a node's line: %q", path, line)
			}
		}
	}
	metrics := get("/metrics")
	text("/metrics", metrics)
	if strings.Contains(metrics, "evil") {
		t.Error("/metrics has a node's words")
	}
	for _, check := range []string{"primary", "replica", "health"} {
		line := harness.AskAgent(t, p.Agents[0], "pg2/"+check+"\n")
		text("the agent", line)
		if strings.Count(line, "\n") != 1 || len(line) > 120 || check == "primary" && !strings.HasPrefix(line, "maint down #") && !strings.HasPrefix(line, "ready down #") && !strings.HasPrefix(line, "drain up") {
			t.Errorf("the agent says %q of %s", line, check)
		}
	}
	for _, args := range [][]string{{"status"}, {"status", "-nagios"}, {"history"}} {
		text(strings.Join(args, " "), printed(args...))
	}
	for _, args := range [][]string{{"status", "-json"}, {"history", "-json"}} {
		document(strings.Join(args, " "), printed(args...))
	}
	harness.AwaitFile(t, historyFile, "pg2")
	document("the history file", harness.ReadFile(t, historyFile))
	document("the log", p.Log.String())
	if !said {
		t.Error("nothing of what the node said is shown anywhere: is it asked?")
	}
}

func printableOrSpace(r rune) rune {
	if r < ' ' || r > '~' {
		return ' '
	}
	return r
}
