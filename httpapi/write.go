package httpapi

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// writeQuestionError answers a question that has no answer: 404 when its node, cluster
// or check does not exist, 400 when it is malformed, 503 when its node is not known yet.
func (s *Server) writeQuestionError(w http.ResponseWriter, r *http.Request, err error) {
	if _, ok := errors.AsType[*node.ParameterError](err); ok {
		writeError(w, r, http.StatusBadRequest, err.Error())
		return
	}
	text := err.Error()
	if e, ok := errors.AsType[*cluster.AmbiguousError](err); ok {
		var full []string
		for _, c := range e.Clusters[:min(len(e.Clusters), maxNamed)] {
			full = append(full, "/cluster/"+c+r.URL.Path)
		}
		text = "node " + quote(e.Node) + " is in several clusters, want one of " + strings.Join(full, ", ")
	}
	if e, ok := errors.AsType[*cluster.UnknownError](err); ok && e.Pending != "" {
		writeError(w, r, http.StatusServiceUnavailable, text)
		return
	}
	writeError(w, r, http.StatusNotFound, text)
}

func writeError(w http.ResponseWriter, r *http.Request, status int, text string) {
	writeJSON(w, r, status, map[string]string{"error": text})
}

func writeJSON(w http.ResponseWriter, r *http.Request, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"encoding the answer failed"}`)
	}
	write(w, r, status, append(body, '\n'))
}

// write writes an answer: with its body, but to HEAD and OPTIONS without, as Patroni
// does (api.py:132-152).
func write(w http.ResponseWriter, r *http.Request, status int, body []byte) {
	h := w.Header()
	h["Content-Type"] = contentTypeJSON
	if r.Method == http.MethodHead || r.Method == http.MethodOptions {
		w.WriteHeader(status)
		return
	}
	body = Printable(body)
	h["Content-Length"] = []string{strconv.Itoa(len(body))}
	w.WriteHeader(status)
	w.Write(body) // an error means that the client is gone
}

var (
	contentTypeJSON = []string{"application/json"}
	noStore         = []string{"no-store"}
	noSniff         = []string{"nosniff"}
)

func quote(s string) string { return strconv.Quote(s) }

// seconds returns a duration for JSON, rounded to milliseconds.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}
