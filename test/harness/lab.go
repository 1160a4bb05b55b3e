package harness

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"patroniglue/contrib/lab"
)

// endToEnd is a real cluster and HAProxy, with the program in this process or in
// one of its own.
type Cluster struct {
	Lab  *lab.Lab
	Log  *LogLines // the program's
	lost bool      // the cluster did not become healthy: no need to wait again

	Cancel context.CancelFunc // ends the program in this process
	Ended  chan int           // its exit code
}

// StartLab skips where a lab cannot be had, unless build.sh said that it is
// required.
func StartLab(t *testing.T, o lab.Options) *lab.Lab {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("PATRONIGLUE_LAB") == "required" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("END TO END NOT TESTED: want root, to run PostgreSQL as its own user")
	}
	wanted := o
	wanted.Parts = append(slices.Clone(o.Parts), lab.HAProxy)
	if err := wanted.Check(t.Context()); err != nil {
		skip("END TO END NOT TESTED: %v", err)
	}
	l, err := lab.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

// StartEndToEnd runs the program in this process.
func StartEndToEnd(t *testing.T, s lab.Suite) *Cluster {
	t.Helper()
	e := StartWithoutHAProxy(t, lab.Options{Suite: s})
	if err := e.Lab.Run(t.Context(), "haproxy", "start"); err != nil {
		t.Fatal(err)
	}
	return e
}

func StartWithoutHAProxy(t *testing.T, o lab.Options) *Cluster {
	t.Helper()
	begun := time.Now()
	o.Parts = []string{lab.ETCD, lab.Patroni}
	l := StartLab(t, o)

	ctx, cancel := context.WithCancel(context.Background())
	e := &Cluster{Lab: l, Log: new(LogLines), Cancel: cancel, Ended: make(chan int, 1)}
	running := make(chan struct{})
	go func() {
		defer close(running)
		e.Ended <- Command(ctx, []string{"-config", l.Config}, io.Discard, e.Log)
	}()
	t.Cleanup(func() {
		cancel()
		<-running
		e.Log.onFailure(t)
	})
	Eventually(t, 15*time.Second, func() error {
		select {
		case code := <-e.Ended:
			t.Fatalf("the program ended with exit code %d", code)
		default:
		}
		return e.Ready()
	})
	t.Logf("cluster and program are up after %v", time.Since(begun).Round(time.Second))
	return e
}

// Ready is nil when the program has polled every node.
func (e *Cluster) Ready() error {
	a, err := e.Ask(e.Lab.HTTP, "GET", "/readyz")
	if err == nil && a.Status != http.StatusOK {
		err = fmt.Errorf("/readyz: status %d: %s", a.Status, a.Body)
	}
	return err
}

// Process is the program in a process of its own.
type Process struct {
	log  *LogLines
	args []string
	cmd  *exec.Cmd // nil when it does not run
}

func StartProcess(t *testing.T, log *LogLines, args ...string) *Process {
	t.Helper()
	p := &Process{log: log, args: args}
	t.Cleanup(func() {
		if p.cmd != nil {
			p.Kill(t)
		}
		log.onFailure(t)
	})
	p.Start(t)
	return p
}

func (p *Process) Start(t *testing.T) {
	t.Helper()
	cmd := exec.Command(p.args[0], p.args[1:]...)
	cmd.Stderr = p.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.cmd = cmd
}

// Kill is kill -9. It returns when the process is gone.
func (p *Process) Kill(t *testing.T) {
	t.Helper()
	_ = p.cmd.Process.Kill() // an error: it has ended, as Wait tells
	err := p.cmd.Wait()
	p.cmd = nil
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.String() != "signal: killed" {
		t.Errorf("the program ended by itself: %v", err)
	}
}

// LogLines collects what the program logs.
type LogLines struct {
	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func (l *LogLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *LogLines) Lines() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.FieldsFunc(l.buf.String(), func(r rune) bool { return r == '\n' })
}

func (l *LogLines) onFailure(t *testing.T) {
	if t.Failed() {
		t.Logf("the program's log:\n%s", strings.Join(l.Lines(), "\n"))
	}
}

// Eventually tries until f succeeds or the time is over.
func Eventually(t *testing.T, limit time.Duration, f func() error) {
	t.Helper()
	for end := time.Now().Add(limit); ; time.Sleep(20 * time.Millisecond) {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("waited %v in vain: %v", limit, err)
		}
	}
}

// FirstTime gives the time after the first f that is true, zero when ctx ends
// before.
func FirstTime(ctx context.Context, every time.Duration, f func() bool) time.Time {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if f() {
			return time.Now()
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return time.Time{}
		}
	}
}

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

// HealthyCluster says who is what.
type HealthyCluster struct {
	Primary  lab.Node
	Replicas []lab.Node
	Major    int // Patroni's version
}

// Healthy waits until one primary leads two streaming replicas, on one timeline,
// and the program knows it.
func (e *Cluster) Healthy(t *testing.T) HealthyCluster {
	t.Helper()
	if e.lost {
		t.Fatal("the cluster did not become healthy after an earlier test")
	}
	e.lost = true // unless the next line returns
	var c HealthyCluster
	Eventually(t, 60*time.Second, func() (err error) {
		c, err = e.Look()
		if err == nil {
			err = e.agrees(c)
		}
		return err
	})
	e.lost = false
	return c
}

// Look asks Patroni.
func (e *Cluster) Look() (HealthyCluster, error) {
	var c HealthyCluster
	timelines := make(map[int64]bool)
	for _, n := range e.Lab.Nodes {
		a, err := e.Ask(n.REST, "GET", "/primary")
		if err != nil {
			return c, err
		}
		var doc struct {
			State, Role string
			Timeline    int64
			Replication []struct{ State string }
			Patroni     struct{ Version string }
		}
		if err := json.Unmarshal(a.Body, &doc); err != nil {
			return c, fmt.Errorf("%s: %w", n.Name, err)
		}
		if doc.State != "running" {
			return c, fmt.Errorf("%s is %s", n.Name, doc.State)
		}
		major, _, _ := strings.Cut(doc.Patroni.Version, ".")
		if c.Major, err = strconv.Atoi(major); err != nil {
			return c, fmt.Errorf("%s: Patroni's version: %w", n.Name, err)
		}
		timelines[doc.Timeline] = true
		leads := doc.Role == "primary" || doc.Role == "master"
		switch {
		case leads && a.Status == http.StatusOK:
			streaming := 0
			for _, r := range doc.Replication {
				if r.State == "streaming" {
					streaming++
				}
			}
			if streaming != 2 || c.Primary.Name != "" {
				return c, fmt.Errorf("%s is primary and streams to %d", n.Name, streaming)
			}
			c.Primary = n
		case doc.Role == "replica" && a.Status == http.StatusServiceUnavailable:
			c.Replicas = append(c.Replicas, n)
		default:
			return c, fmt.Errorf("%s is %s with status %d", n.Name, doc.Role, a.Status)
		}
	}
	if c.Primary.Name == "" || len(timelines) != 1 {
		return c, fmt.Errorf("primary %q, timelines %v", c.Primary.Name, timelines)
	}
	return c, nil
}

// agrees asks the program.
func (e *Cluster) agrees(c HealthyCluster) error {
	a, err := e.Ask(e.Lab.HTTP, "GET", "/health?strict")
	if err != nil {
		return err
	}
	if a.Status != http.StatusOK {
		return fmt.Errorf("/health?strict: status %d: %s", a.Status, a.Body)
	}
	var replicas []string
	for _, n := range c.Replicas {
		replicas = append(replicas, n.Name)
	}
	for check, want := range map[string][]string{"primary": {c.Primary.Name}, "replica": replicas} {
		if got, err := e.Passing(check); err != nil {
			return err
		} else if !slices.Equal(got, want) {
			return fmt.Errorf("%s here: %v, want %v", check, got, want)
		}
	}
	return nil
}

// Passing gives the nodes that pass a check, all from one view.
func (e *Cluster) Passing(check string) ([]string, error) {
	a, err := e.Ask(e.Lab.HTTP, "GET", "/cluster/"+e.Lab.Scope+"/"+check)
	if err != nil {
		return nil, err
	}
	var body struct{ Nodes []string }
	if err := json.Unmarshal(a.Body, &body); err != nil {
		return nil, fmt.Errorf("/%s: %w: %s", check, err, a.Body)
	}
	return body.Nodes, nil
}

// Sample is what everybody was told at a moment.
type Sample struct {
	at       time.Duration // since the beginning of the watch
	HTTP     []string      // nodes that pass primary, asked one after another
	Agent    []string      // nodes that are ready, likewise
	Replicas []string      // that pass replica, in one view
	two      string        // how two passed at once
	Err      error
}

func (s Sample) String() string { return fmt.Sprintf("after %v", s.at.Round(time.Millisecond)) }

// Recorder does something again and again and keeps what came of it.
type Recorder[T any] struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	kept   []T // guarded by mu
}

// Record calls f from so many goroutines, each at most once in an interval,
// until stop or the end of the test.
func Record[T any](t *testing.T, goroutines int, interval time.Duration, f func() T) *Recorder[T] {
	ctx, cancel := context.WithCancel(context.Background())
	r := &Recorder[T]{cancel: cancel}
	t.Cleanup(func() { r.Stop() })
	for i := range goroutines {
		r.wg.Go(func() {
			time.Sleep(interval * time.Duration(i) / time.Duration(goroutines)) // they take turns
			tick := time.NewTicker(interval)
			defer tick.Stop()
			for ctx.Err() == nil {
				r.keep(f())
				select {
				case <-tick.C:
				case <-ctx.Done():
				}
			}
		})
	}
	return r
}

func (r *Recorder[T]) keep(v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, v)
}

// SoFar gives what has been kept, in the order in which it came.
func (r *Recorder[T]) SoFar() []T {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.kept)
}

// Stop ends the recording and gives all of it. It may be called again.
func (r *Recorder[T]) Stop() []T {
	r.cancel()
	r.wg.Wait()
	return r.SoFar()
}

// Watch asks every 50 ms who is primary.
func (e *Cluster) Watch(t *testing.T) *Recorder[Sample] {
	begun := time.Now()
	return Record(t, 1, 50*time.Millisecond, func() Sample {
		s := e.sample()
		s.at = time.Since(begun)
		return s
	})
}

func (e *Cluster) sample() (s Sample) {
	check := func(err error) { s.Err = errors.Join(s.Err, err) }
	pass := func(name string) bool {
		a, err := e.Ask(e.Lab.HTTP, "HEAD", "/node/"+name+"/primary")
		check(err)
		return a.Status == http.StatusOK
	}
	ready := func(name string) bool {
		line, err := e.AskAgent(name + "/primary")
		check(err)
		return strings.HasPrefix(line, "ready up")
	}
	// Two questions are two moments, and between them one primary may have given
	// way to another. But whoever passes again after another one passed, passed
	// at the same time.
	var order []string
	for _, n := range e.Lab.Nodes {
		if pass(n.Name) {
			s.HTTP, order = append(s.HTTP, n.Name), append(order, n.Name)
		}
	}
	for _, n := range e.Lab.Nodes {
		if ready(n.Name) {
			s.Agent, order = append(s.Agent, n.Name), append(order, n.Name)
		}
	}
	if len(order) > 0 && slices.ContainsFunc(order, func(name string) bool { return name != order[0] }) && (pass(order[0]) || ready(order[0])) {
		s.two = fmt.Sprintf("%v passed in this order, and then %s again", order, order[0])
	}
	together, err := e.Passing("primary")
	check(err)
	if len(together) > 1 {
		s.two += fmt.Sprintf(" %v pass in one view", together)
	}
	s.Replicas, err = e.Passing("replica")
	check(err)
	return s
}

// NeverTwo: at no moment two nodes were primary, and there always was an answer.
func NeverTwo(t *testing.T, samples []Sample) {
	t.Helper()
	if len(samples) < 10 {
		t.Errorf("%d samples, want at least 10", len(samples))
	}
	two, failed := 0, 0
	for _, s := range samples {
		if s.two != "" {
			if two++; two == 1 {
				t.Errorf("%s: two primaries: %s", s, s.two)
			}
		}
		if s.Err != nil {
			if failed++; failed == 1 {
				t.Errorf("%s: %v", s, s.Err)
			}
		}
	}
	if two > 1 || failed > 1 {
		t.Errorf("of %d samples %d show two primaries, %d an error", len(samples), two, failed)
	}
}

// Gap says for how long nobody was primary.
func Gap(samples []Sample) string {
	var first, last time.Duration
	none := 0
	for _, s := range samples {
		if len(s.HTTP) > 0 {
			continue
		}
		if none == 0 {
			first = s.at
		}
		last = s.at
		none++
	}
	return fmt.Sprintf("nobody primary in %d of %d samples, %v", none, len(samples), (last - first).Round(10*time.Millisecond))
}

// Normal is what HAProxy shows of a healthy cluster: nothing is DOWN.
func (e *Cluster) Normal(c HealthyCluster) map[string]string {
	want := make(map[string]string)
	for _, n := range e.Lab.Nodes {
		want[lab.WriteBackend+"/"+n.Name], want[lab.ReadBackend+"/"+n.Name] = "MAINT", "UP"
	}
	want[lab.WriteBackend+"/"+c.Primary.Name], want[lab.ReadBackend+"/"+c.Primary.Name] = "UP", "MAINT"
	return want
}

// HAProxyShows waits until "show stat" says so: agents are asked every 200 ms.
func (e *Cluster) HAProxyShows(t *testing.T, want map[string]string) {
	t.Helper()
	var diff string
	Eventually(t, 20*time.Second, func() error {
		servers, err := e.Lab.HAProxyStat(t.Context())
		if err != nil {
			return err
		}
		got := make(map[string]string)
		for _, s := range servers {
			// "DOWN (agent)", "UP 1/2": on the way.
			word, _, _ := strings.Cut(s.Status, " ")
			got[s.Backend+"/"+s.Name] = word
		}
		if diff = gocmp.Diff(want, got); diff != "" {
			return fmt.Errorf("HAProxy's show stat (-want +got)\n%s", diff)
		}
		return nil
	})
}
