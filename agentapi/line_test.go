package agentapi

import (
	"errors"
	"strings"
	"testing"

	"patroniglue/cluster"
	"patroniglue/node"
)

func answer(t testing.TB, check string, o node.Outcome, label string) cluster.Answer {
	t.Helper()
	c, err := node.ParseCheck(check, "")
	if err != nil {
		t.Fatal(err)
	}
	return cluster.Answer{Check: c, Verdict: node.Verdict{Outcome: o, Label: label, Reason: "a sentence for people"}}
}

func TestAppendLine(t *testing.T) {
	const lag = "lag 212 MB over 100 MB for 14s"
	for _, tt := range []struct {
		check   string
		outcome node.Outcome
		label   string
		want    string
	}{
		{"primary", node.Pass, "primary", "ready up 100% #primary\n"},
		{"replica", node.Pass, "replica", "ready up 100% #replica\n"},
		{"read-only", node.Pass, "primary", "ready up 100% #primary\n"},
		{"primary", node.OtherRole, "replica", "maint down #replica\n"},
		{"replica", node.OtherRole, "primary", "maint down #primary\n"},
		{"replica", node.Lagging, lag, "drain up #" + lag + "\n"},
		{"read-only", node.Lagging, lag, "drain up #" + lag + "\n"},
		{"health", node.Lagging, lag, "drain up #" + lag + "\n"},
		{"primary", node.Lagging, lag, "maint down #" + lag + "\n"},
		{"master", node.Lagging, lag, "maint down #" + lag + "\n"},
		{"read-write", node.Lagging, lag, "maint down #" + lag + "\n"},
		{"leader", node.Lagging, lag, "maint down #" + lag + "\n"},
		{"standby-leader", node.Lagging, lag, "maint down #" + lag + "\n"},
		{"standby_leader", node.Lagging, lag, "maint down #" + lag + "\n"},
		{"replica", node.Excluded, "noloadbalance", "maint down #noloadbalance\n"},
		{"primary", node.Excluded, "not elected", "maint down #not elected\n"},
		{"primary", node.Transient, "stopping", "maint down #stopping\n"},
		{"primary", node.Transient, "leaving", "maint down #leaving\n"},
		{"read-only", node.Transient, "leaving", "maint down #leaving\n"},
		{"primary", node.Finishing, "leaving", "drain up #leaving\n"},
		{"replica", node.Transient, "starting", "maint down #starting\n"},
		{"primary", node.Fault, "no answer within 3s", "ready down #no answer within 3s\n"},
		{"replica", node.Fault, "crashed", "ready down #crashed\n"},
		{"replica", node.Fault, "", "ready down #a sentence for people\n"},
		{"replica", node.Outcome(99), "?", "maint down #?\n"},
	} {
		if got := string(AppendLine(nil, answer(t, tt.check, tt.outcome, tt.label))); got != tt.want {
			t.Errorf("%s, outcome %d: got %q, want %q", tt.check, uint8(tt.outcome), got, tt.want)
		}
	}
}

func TestAppendLineHostile(t *testing.T) {
	const room = 120 - len("ready down #") - len("\n")
	for _, tt := range []struct{ name, label, want string }{
		{"newline", "bad\nready up 100%", "ready down #bad ready up 100%\n"},
		{"carriage return", "bad\r\n\r\nready up", "ready down #bad ready up\n"},
		{"other white space", " \t a\v\f\tb\u0085c\u00a0d\u2028e ", "ready down #a b c d e\n"},
		{"escape sequence", "\x1b[31mred\x1b[0m\x07\x7f", "ready down #?[31mred?[0m??\n"},
		{"NUL", "a\x00b", "ready down #a?b\n"},
		{"UTF-8", "größer 日本", "ready down #gr??er ??\n"},
		{"invalid UTF-8", "a\xff\xfeb", "ready down #a??b\n"},
		{"full", strings.Repeat("x", room), "ready down #" + strings.Repeat("x", room) + "\n"},
		{"full and white space", strings.Repeat("x", room) + " \n ", "ready down #" + strings.Repeat("x", room) + "\n"},
		{"one too long", strings.Repeat("x", room+1), "ready down #" + strings.Repeat("x", room-3) + "...\n"},
		{"10 kB of one word", strings.Repeat("x", 10240), "ready down #" + strings.Repeat("x", room-3) + "...\n"},
		{"10 kB of words", strings.Repeat("lorem ", 1700), "ready down #" + strings.Repeat("lorem ", 16) + "lorem...\n"},
		{"10 kB of newlines", strings.Repeat("\n", 10240), "ready down #\n"},
		{"10 kB of UTF-8", strings.Repeat("\u20ac", 3400), "ready down #" + strings.Repeat("?", room-3) + "...\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := AppendLine(nil, answer(t, "primary", node.Fault, tt.label))
			if string(got) != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
			checkLine(t, got)
		})
	}
}

func TestAppendError(t *testing.T) {
	_, unknownCheck := node.ParseCheck("primry", "")
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New(`unknown node "pgX"`), "maint down #unknown node \"pgX\"\n"},
		{unknownCheck, "maint down #unknown check \"primry\", want one of primary, master, read-write, leader, standby-leader, standby_leader,...\n"},
		{errNoRequest, `maint down #no request: want agent-send "node/check\n"` + "\n"},
		{errLongRequest, "maint down #request longer than 512 bytes\n"},
		{errors.Join(errors.New("one"), errors.New("two")), "maint down #one two\n"},
	} {
		got := AppendError(nil, tt.err)
		if string(got) != tt.want {
			t.Errorf("got %q, want %q", got, tt.want)
		}
		checkLine(t, got)
	}
}

func TestAppendLineKeepsWhatIsThere(t *testing.T) {
	got := string(AppendLine([]byte(strings.Repeat("-", 200)), answer(t, "replica", node.Fault, strings.Repeat("y", 200))))
	want := strings.Repeat("-", 200) + "ready down #" + strings.Repeat("y", 104) + "...\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestAppendLineAllocatesNothing(t *testing.T) {
	buf := make([]byte, 0, MaxLine)
	for _, a := range []cluster.Answer{
		answer(t, "primary", node.Pass, "primary"),
		answer(t, "primary", node.Fault, strings.Repeat("long \n", 1000)),
	} {
		if n := testing.AllocsPerRun(100, func() { AppendLine(buf[:0], a) }); n != 0 {
			t.Errorf("%s: %v allocations, want 0: every agent check would pay for them, and for their collection", AppendLine(nil, a), n)
		}
	}
}

// checkLine fails t unless HAProxy understands the line as it is meant.
func checkLine(t testing.TB, line []byte) {
	t.Helper()
	if len(line) > 120 {
		t.Errorf("line of %d bytes, want at most 120: %q", len(line), line)
	}
	text, ok := strings.CutSuffix(string(line), "\n")
	if !ok {
		t.Fatalf("line %q has no end", line)
	}
	for i := range len(text) {
		if text[i] < ' ' || text[i] > '~' {
			t.Errorf("line %q has byte %#x at %d", line, text[i], i)
		}
	}
	words, _, ok := strings.Cut(text, " #")
	if !ok {
		t.Errorf("line %q has no description", line)
	}
	switch words {
	case "ready up 100%", "drain up", "maint down", "ready down":
	default:
		t.Errorf("line %q says %q", line, words)
	}
}

func FuzzLine(f *testing.F) {
	f.Add(uint8(node.Pass), "primary")
	f.Add(uint8(node.Fault), "a\nready up 100%\r\x1b[0m")
	f.Add(uint8(node.Lagging), strings.Repeat("lag ", 100))
	f.Add(uint8(node.Excluded), strings.Repeat("\xff", 200))
	f.Fuzz(func(t *testing.T, outcome uint8, label string) {
		for _, check := range []string{"primary", "replica"} {
			line := AppendLine(nil, answer(t, check, node.Outcome(outcome), label))
			checkLine(t, line)
			up := strings.HasPrefix(string(line), "ready up")
			if pass := node.Outcome(outcome) == node.Pass; up != pass {
				t.Errorf("%s: %q for outcome %d", check, line, outcome)
			}
		}
	})
}

func BenchmarkAppendLine(b *testing.B) {
	for name, a := range map[string]cluster.Answer{
		"pass":  answer(b, "primary", node.Pass, "primary"),
		"fault": answer(b, "primary", node.Fault, "stale: last answer 6.2s ago, ttl 5s: dial tcp 10.0.0.11:8008: i/o timeout"),
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			buf := make([]byte, 0, MaxLine)
			for b.Loop() {
				buf = AppendLine(buf[:0], a)
			}
		})
	}
}
