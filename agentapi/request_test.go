package agentapi

import (
	"bytes"
	"strings"
	"testing"

	"patroniglue/cluster"
)

func TestParseRequest(t *testing.T) {
	const malformed = "malformed request: want node/check or cluster/node/check"
	question := cluster.Question{Node: "pg1", Check: "primary"}
	for _, tt := range []struct {
		name, request string
		want          cluster.Question
		err           string
	}{
		{"LF", "pg1/primary\n", question, ""},
		{"CRLF", "pg1/primary\r\n", question, ""},
		{"CR", "pg1/primary\r", question, ""},
		{"NUL", "pg1/primary\x00\x00", question, ""},
		{"literal backslash-n", `pg1/primary\n`, question, ""},
		{"literal backslash-r-backslash-n", `pg1/primary\r\n`, question, ""},
		{"no end", "pg1/primary", question, ""},
		{"spaces", " \tpg1/primary \t\n", question, ""},
		{"two lines", "pg1/primary\npg2/replica\n", question, ""},
		{"end of an end", `pg1/primary\`, cluster.Question{Node: "pg1", Check: `primary\`}, ""},
		{"cluster", "main/pg1/primary\n", cluster.Question{Cluster: "main", Node: "pg1", Check: "primary"}, ""},
		{"parameters", "pg1/replica?lag=1MB&tag_zone=a\n", cluster.Question{Node: "pg1", Check: "replica", Query: "lag=1MB&tag_zone=a"}, ""},
		{"parameters, all three", "main/pg1/replica?tag_url=a/b?c\n", cluster.Question{Cluster: "main", Node: "pg1", Check: "replica", Query: "tag_url=a/b?c"}, ""},
		{"empty parameters", "pg1/primary?\n", question, ""},
		{"unknown names", "pgX/nonsense\n", cluster.Question{Node: "pgX", Check: "nonsense"}, ""},
		{"512 bytes", "pg1/" + strings.Repeat("x", 508) + "\n", cluster.Question{Node: "pg1", Check: strings.Repeat("x", 508)}, ""},

		{"nothing", "", cluster.Question{}, `no request: want agent-send "node/check\n"`},
		{"empty line", "\n", cluster.Question{}, `no request: want agent-send "node/check\n"`},
		{"spaces only", "  \t\n", cluster.Question{}, `no request: want agent-send "node/check\n"`},
		{"513 bytes", "pg1/" + strings.Repeat("x", 509) + "\n", cluster.Question{}, "request longer than 512 bytes"},
		{"no check", "pg1\n", cluster.Question{}, malformed + ` (got "pg1")`},
		{"empty check", "pg1/\n", cluster.Question{}, malformed + ` (got "pg1/")`},
		{"empty node", "/primary\n", cluster.Question{}, malformed + ` (got "/primary")`},
		{"empty third", "main/pg1/\n", cluster.Question{}, malformed + ` (got "main/pg1/")`},
		{"four parts", "a/main/pg1/primary\n", cluster.Question{}, malformed + ` (got "a/main/pg1/primary")`},
		{"parameters only", "?lag=1MB\n", cluster.Question{}, malformed + ` (got "?lag=1MB")`},
		{"slash in the parameters", "pg1?a/b\n", cluster.Question{}, malformed + ` (got "pg1?a/b")`},
		{"old words", "rw pg1\n", cluster.Question{}, malformed + ` (got "rw pg1")`},
		{"HTTP", "GET /pg1/primary HTTP/1.0\r\n\r\n", cluster.Question{}, malformed + ` (got "GET /pg1/primary HTTP/1.0")`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ParseRequest([]byte(tt.request))
			text := ""
			if err != nil {
				text = err.Error()
			}
			if got != tt.want || text != tt.err {
				t.Errorf("got %+v, error %q\nwant %+v, error %q", got, text, tt.want, tt.err)
			}
		})
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{
		"", "\n", "pg1/primary\n", "pg1/primary\r\n", `pg1/primary\n`, "pg1/primary", " pg1/primary ", "main/pg1/replica?lag=1MB&tag_a=b\n",
		"pg1/primary\x00", "a/b/c/d", "/", "//", "?", "pg1/\x1b[0m", "pg1/\xff", "a/b\nc/d\n", strings.Repeat("x", 513), strings.Repeat("y", 512) + `\n`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, request []byte) {
		before := bytes.Clone(request)
		q, err := ParseRequest(request)
		if !bytes.Equal(before, request) {
			t.Fatal("changed its input")
		}
		if err != nil {
			if q != (cluster.Question{}) {
				t.Errorf("error %q with %+v", err, q)
			}
			checkLine(t, AppendError(nil, err))
			return
		}
		if q.Node == "" || q.Check == "" || strings.Contains(q.Cluster+q.Node+q.Check, "/") || strings.ContainsAny(q.Cluster+q.Node+q.Check+q.Query, "\r\n\x00") {
			t.Errorf("%q gave %+v", request, q)
		}
		line := q.Node + "/" + q.Check
		if q.Cluster != "" {
			line = q.Cluster + "/" + line
		}
		if q.Query != "" {
			line += "?" + q.Query
		}
		if again, err := ParseRequest([]byte(line + "\n")); err != nil || again != q {
			t.Errorf("%q gave %+v, and that written as a request %+v, %v", request, q, again, err)
		}
	})
}
