package cli

import (
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/cluster"
)

// Characters of two columns, of none, and of several parts. What follows them begins
// where a terminal has the column, so these lines look uneven in some editors.
func TestTable(t *testing.T) {
	tab := table{indent: "  "}
	tab.add("NODE", "STATE", "WHY")
	tab.add("pg1", "running", "")
	tab.add("主库", "", "leads")
	tab.add("re\u0301plica", "停止", "\x1b[2J\n")
	tab.add("👩‍💻", "x", "y")
	var out strings.Builder
	if err := tab.print(&out); err != nil {
		t.Fatal(err)
	}
	want := "  NODE     STATE    WHY\n" +
		"  pg1      running\n" +
		"  主库              leads\n" +
		"  re\u0301plica  停止     \ufffd[2J\ufffd\n" +
		"  👩\ufffd💻    x        y\n" // the joiner is not printable
	if d := gocmp.Diff(want, out.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// -watch cuts where the window ends, not after so many characters.
func TestWatchWideNames(t *testing.T) {
	now := time.Date(2026, 11, 23, 3, 4, 5, 0, time.UTC)
	s := statusOf("main", cluster.OK)
	s.Nodes[1].Node = "从库二"
	s.Nodes[2].Checks["replica"] = s.Nodes[1].Checks["replica"]
	verdict := s.Nodes[2].Checks["primary"]
	verdict.Reason = "状态未知"
	s.Nodes[2].Checks["replica"] = verdict
	w := watcher{every: time.Second, size: func() (int, int) { return 80, 24 }}
	want := `patroniglue  2026-11-23 03:04:05  answered 0.0s ago, asked every 1s

Cluster main: ok
  NODE    ROLE              STATE    TL  LAG     AGE   PRIMARY  REPLICA  WHY
  pg1     Leader (primary)  running  7   -       0.2s  yes      no       holds >
  从库二  replica           running  7   1.0 MB  0.2s  no       yes      runnin>
  pg3     replica           running  7   2.0 MB  0.2s  no       no       状态未>
`
	if d := gocmp.Diff(want, seen(w.frame(heard{status: s, at: now}, now))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestFit(t *testing.T) {
	const red = "\x1b[1;31m"
	tests := []struct {
		line    string
		columns int
		want    string
	}{
		{"", 3, ""},
		{"abc", 3, "abc"},
		{"abcd", 3, "ab>"},
		{"主库", 4, "主库"},
		{"主库", 3, "主>"},
		{"a主库", 3, "a>"}, // half a character cannot be shown
		{"主库", 1, ">"},
		{"e\u0301e\u0301e\u0301", 2, "e\u0301>"},
		{red + "主库\x1b[m", 4, red + "主库\x1b[m"},
		{"x " + red + "critical\x1b[m, more", 5, "x " + red + "cr\x1b[m>"},
		{"ab" + red + "cd\x1b[m", 2, "a" + red + "\x1b[m>"},
	}
	for _, tt := range tests {
		if got := fit(tt.line, tt.columns); got != tt.want {
			t.Errorf("fit(%q, %d) = %q, want %q", tt.line, tt.columns, got, tt.want)
		}
		if got := columnsOf(fit(tt.line, tt.columns)); got > tt.columns {
			t.Errorf("fit(%q, %d) has %d columns", tt.line, tt.columns, got)
		}
	}
}
