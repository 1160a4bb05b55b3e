package cli

import (
	"strings"
	"testing"

	"patroniglue/cluster"
)

// Another program on our port may answer anything.
func TestHistoryIsPrintable(t *testing.T) {
	var out strings.Builder
	if err := printHistory(&out, cluster.History{Changes: []cluster.Change{{Cluster: "ma\tin", Kind: "state", Before: "\x1b[2J", After: "a\nb", Reason: "\u009b1m"}}}); err != nil {
		t.Fatal(err)
	}
	row := strings.Split(out.String(), "\n")[1]
	if want := "ma\ufffdin - state \ufffd[2J a\ufffdb \ufffd1m"; !strings.HasSuffix(strings.Join(strings.Fields(row), " "), want) {
		t.Errorf("the row is %q, want %q at its end", row, want)
	}
}
