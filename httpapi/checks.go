package httpapi

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"patroniglue/cluster"
	"patroniglue/node"
)

// nodeCheck answers a check of one node: Patroni's status code, and by GET
// Patroni's document with our verdict in it.
func (s *Server) nodeCheck(w http.ResponseWriter, r *http.Request) {
	a, err := s.sup.Ask(r.Context(), cluster.Question{
		Cluster: r.PathValue("cluster"), Node: r.PathValue("node"), Check: r.PathValue("check"), Query: r.URL.RawQuery,
	})
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	s.served.count(a.Check.Ask, a.Verdict.Passes())
	status := http.StatusServiceUnavailable
	if a.Verdict.Passes() {
		status = http.StatusOK
	}
	if e := &a.Member.Entry; e.Known && r.Header.Get(node.AgeHeader) != "" {
		w.Header().Set(node.AgeHeader, node.FormatAge(e.Age(a.At)))
	}
	buf := buffers.Get().(*bytes.Buffer)
	defer buffers.Put(buf)
	buf.Reset()
	appendAnswer(buf, &a)
	write(w, r, status, buf.Bytes())
}

var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

// appendAnswer writes the node's last document with an object "patroniglue" as
// its last key. A document that is not believed is left out: a supervisor above
// this one would take it for the node's fresh answer, and a replica that is gone
// for a running one.
func appendAnswer(buf *bytes.Buffer, a *cluster.Answer) {
	m := a.Member
	buf.WriteByte('{')
	if m.Entry.Fresh(a.At) && m.Refused == "" {
		appendMembers(buf, m.Entry.Value.Raw)
	}
	buf.WriteString(`"patroniglue":{"node":`)
	appendString(buf, m.Name)
	buf.WriteString(`,"cluster":`)
	appendString(buf, a.View.Cluster)
	buf.WriteString(`,"check":`)
	appendString(buf, a.Check.Name)
	buf.WriteString(`,"pass":`)
	buf.Write(strconv.AppendBool(buf.AvailableBuffer(), a.Verdict.Passes()))
	buf.WriteString(`,"reason":`)
	appendString(buf, a.Verdict.Reason)
	buf.WriteString(`,"polled_at":`)
	if m.Entry.Known {
		buf.WriteByte('"')
		buf.Write(m.Entry.Began.UTC().AppendFormat(buf.AvailableBuffer(), "2006-01-02T15:04:05.000Z"))
		buf.WriteByte('"')
	} else {
		buf.WriteString("null")
	}
	buf.WriteString("}}\n")
}

// appendString writes s as JSON, the short way when nothing needs an escape.
func appendString(buf *bytes.Buffer, s string) {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&' {
			b, _ := json.Marshal(s) // a string always marshals
			buf.Write(b)
			return
		}
	}
	buf.WriteByte('"')
	buf.WriteString(s)
	buf.WriteByte('"')
}

// appendMembers writes the members of a JSON object as they are there, and a
// comma, but not "patroniglue": that is the verdict of a supervisor which is
// polled as if it were a Patroni, and this one puts its own in.
func appendMembers(buf *bytes.Buffer, raw []byte) {
	defer buf.WriteByte(',') // there are members: without a state and a role it were no report
	if !bytes.Contains(raw, []byte(`"patroniglue"`)) {
		buf.Write(bytes.TrimRight(raw[1:len(raw)-1], jsonSpace))
		return
	}
	dec := json.NewDecoder(bytes.NewReader(raw)) // which was read once already, so nothing fails here
	dec.Token()
	cut := jsonSpace + "," // of the first member that stays
	for from := dec.InputOffset(); dec.More(); from = dec.InputOffset() {
		key, _ := dec.Token()
		var value json.RawMessage
		if dec.Decode(&value) != nil {
			return
		}
		if key != "patroniglue" {
			buf.Write(bytes.TrimLeft(raw[from:dec.InputOffset()], cut))
			cut = ""
		}
	}
}

const jsonSpace = " \t\r\n"

// clusterCheck answers a check of a whole cluster: does any node pass?
func (s *Server) clusterCheck(w http.ResponseWriter, r *http.Request) {
	if _, err := node.ParseCheck(r.PathValue("check"), r.URL.RawQuery); err != nil {
		s.writeQuestionError(w, r, err) // before it is asked of which cluster
		return
	}
	name, ok := s.clusterName(w, r)
	if !ok {
		return
	}
	s.answerCluster(w, r, name, r.PathValue("check"))
}

func (s *Server) answerCluster(w http.ResponseWriter, r *http.Request, name, check string) {
	answers, err := s.sup.AskAll(r.Context(), name, check, r.URL.RawQuery)
	if err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	status := http.StatusServiceUnavailable
	nodes, reasons := []string{}, map[string]string{}
	for _, a := range answers {
		reasons[a.Member.Name] = a.Verdict.Reason
		if a.Verdict.Passes() {
			status = http.StatusOK
			nodes = append(nodes, a.Member.Name)
		}
	}
	s.served.count(answers[0].Check.Ask, status == http.StatusOK) // a cluster has nodes
	// The check's own name as a key is what patroniglue 1.x answered.
	writeJSON(w, r, status, map[string]any{check: status == http.StatusOK, "cluster": name, "nodes": nodes, "reasons": reasons})
}

// maxNamed bounds how many names an error lists.
const maxNamed = 20

// clusterName takes the cluster from the path, or the only one there is.
func (s *Server) clusterName(w http.ResponseWriter, r *http.Request) (string, bool) {
	if name := r.PathValue("cluster"); name != "" {
		return name, true
	}
	views := s.sup.Views()
	if len(views) == 1 {
		return views[0].Cluster, true
	}
	if len(views) == 0 {
		writeError(w, r, http.StatusServiceUnavailable, "no cluster is known: "+cmp.Or(s.sup.Pending(), "discovery: no member is listed"))
		return "", false
	}
	var full []string
	for _, v := range views[:min(len(views), maxNamed)] {
		full = append(full, "/cluster/"+v.Cluster+strings.TrimPrefix(r.URL.Path, "/cluster"))
	}
	writeError(w, r, http.StatusNotFound, "several clusters are watched, want one of "+strings.Join(full, ", "))
	return "", false
}

// refresh makes the node's cluster be polled at once. It has no body and
// changes no verdict, so nobody needs permission.
func (s *Server) refresh(w http.ResponseWriter, r *http.Request) {
	if err := s.sup.Refresh(r.PathValue("cluster"), r.PathValue("node")); err != nil {
		s.writeQuestionError(w, r, err)
		return
	}
	writeJSON(w, r, http.StatusAccepted, map[string]string{"refresh": r.PathValue("node")})
}

// refreshByToken is for Patroni's hooks, where an operator's listener has the rest.
func (s *Server) refreshByToken(w http.ResponseWriter, r *http.Request) {
	if s.settings.Load().Token == "" {
		elsewhere(w, r)
	} else if s.authorized(w, r) {
		s.refresh(w, r)
	}
}

// writeQuestionError: what there is not is 404, what is malformed 400.
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

// write answers: with the body by GET and POST, without by HEAD and OPTIONS, as
// Patroni does (api.py:132-152).
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
	w.Write(body) // a client that is gone is its own affair
}

var (
	contentTypeJSON = []string{"application/json"}
	noStore         = []string{"no-store"}
	noSniff         = []string{"nosniff"}
)

func quote(s string) string { return strconv.Quote(s) }

// seconds rounds a duration for JSON, to milliseconds.
func seconds(d time.Duration) float64 {
	return float64(d.Round(time.Millisecond)) / float64(time.Second)
}
