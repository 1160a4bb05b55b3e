package shipped

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"patroniglue/test/harness"
)

// neverBlocks is far more than the second that a hook may take, for a busy machine, and far less
// than waiting for an answer that never comes.
const neverBlocks = 10 * time.Second

// hook runs one of contrib's scripts as Patroni does, which has to end soon and with 0. It returns
// what the script printed and how long it took.
func hook(t *testing.T, env []string, script string, args ...string) (stderr string, took time.Duration) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "contrib/"+script, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	began := time.Now()
	err := cmd.Run()
	took = time.Since(began)
	if err != nil || out.Len() > 0 || took > neverBlocks {
		t.Errorf("%s: %v after %v, stdout %q, stderr %q, want exit code 0 within %v", script, err, took, &out, &errs, neverBlocks)
	}
	return errs.String(), took
}

// silent returns the URL of a port that accepts connections and never answers.
func silent(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return "http://" + ln.Addr().String() // the kernel accepts
}

// spyOnCurl returns a PATH whose curl records its arguments.
func spyOnCurl(t *testing.T) (path, calls string) {
	t.Helper()
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatalf("the hooks need curl: %v", err)
	}
	dir := t.TempDir()
	calls = filepath.Join(dir, "calls")
	script := fmt.Sprintf("#!/bin/sh\n{ echo \"$@\"; env; } >>%s\nexec %s \"$@\"\n", calls, curl)
	if err := os.WriteFile(filepath.Join(dir, "curl"), []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	return "PATH=" + dir + ":" + os.Getenv("PATH"), calls
}

func TestBeforeStop(t *testing.T) {
	token := harness.WriteFile(t, "token", "secret\n")
	env := func(p *harness.Program, urls ...string) []string {
		return []string{"PATRONIGLUE_URLS=" + strings.Join(urls, " "), "PATRONIGLUE_NODE=pg1", "PATRONIGLUE_TOKEN_FILE=" + token, "PATRONIGLUE_FOR=60s"}
	}
	leaves := func(p *harness.Program) bool {
		return strings.HasSuffix(harness.AskAgent(t, p.Agents[0], "pg1/primary\n"), " #leaving\n") // drain, then maint
	}

	t.Run("announces, waits, and hides the token", func(t *testing.T) {
		t.Parallel()
		p, _ := harness.StartWithToken(t, "")
		path, calls := spyOnCurl(t)
		stderr, took := hook(t, append(env(p, "http://"+p.HTTP+"/"), path, "PATRONIGLUE_CLUSTER=main"), "patroni-before-stop")
		if !leaves(p) || took < 400*time.Millisecond {
			t.Errorf("leaving %t after %v, want that it is, and two of HAProxy's intervals later", leaves(p), took)
		}
		if want := "patroni-before-stop: http://" + p.HTTP + `: {"node":"pg1","cluster":"main","leaving":true,"until":"`; !strings.HasPrefix(stderr, want) || strings.Count(stderr, "\n") != 1 {
			t.Errorf("stderr %q, want one line that begins with %q", stderr, want)
		}
		if called, err := os.ReadFile(calls); err != nil || !strings.Contains(string(called), "/cluster/main/node/pg1/leaving?for=60s") || strings.Contains(string(called), "secret") {
			t.Errorf("the token is for everybody to see, or curl was not called (%v): %s", err, called)
		}
	})
	t.Run("tells all, though some are dead or hang", func(t *testing.T) {
		t.Parallel()
		p, _ := harness.StartWithToken(t, "")
		q, _ := harness.StartWithToken(t, "")
		dead, hanging := "http://"+harness.FreePort(t), silent(t)
		stderr, _ := hook(t, env(p, dead, "http://"+p.HTTP, hanging, "http://"+q.HTTP), "patroni-before-stop")
		if !leaves(p) || !leaves(q) {
			t.Errorf("leaving: %t and %t, want both", leaves(p), leaves(q))
		}
		// Of one that does not answer curl says why or, on a slow machine, timeout ends it: so it may be with those that are well.
		for _, want := range []string{dead + ": curl: (7) ", hanging + ": ", p.HTTP + ": ", q.HTTP + ": "} {
			if strings.Count(stderr, want) != 1 {
				t.Errorf("no %q in stderr: %q", want, stderr)
			}
		}
	})
	t.Run("is refused", func(t *testing.T) {
		t.Parallel()
		p, _ := harness.StartWithToken(t, "")
		other := "PATRONIGLUE_TOKEN_FILE=" + harness.WriteFile(t, "token", "other")
		if stderr, _ := hook(t, append(env(p, "http://"+p.HTTP), other), "patroni-before-stop"); leaves(p) || !strings.HasSuffix(stderr, `: {"error":"want the bearer token of token-file in [frontend]"}`+"\n") {
			t.Errorf("leaving %t by a wrong token: %q", leaves(p), stderr)
		}
		none := "PATRONIGLUE_TOKEN_FILE=/nonexistent/token"
		if stderr, _ := hook(t, append(env(p, "http://"+p.HTTP), none), "patroni-before-stop"); leaves(p) || !strings.HasPrefix(stderr, "patroni-before-stop: nobody is told that this node stops: ") || !strings.Contains(stderr, "/nonexistent/token") {
			t.Errorf("leaving %t without a token: %q", leaves(p), stderr)
		}
		if stderr, _ := hook(t, append(env(p, "http://"+p.HTTP), "PATRONIGLUE_NODE=pg2"), "patroni-before-stop"); leaves(p) || !strings.Contains(stderr, "nothing to announce: pg1 leads, not pg2") {
			t.Errorf("leaving %t by a replica: %q", leaves(p), stderr)
		}
	})
	t.Run("settings in a file", func(t *testing.T) {
		t.Parallel()
		p, _ := harness.StartWithToken(t, "")
		conf := harness.WriteFile(t, "hooks.conf", fmt.Sprintf("PATRONIGLUE_URLS=http://%s\nPATRONIGLUE_NODE=pg1\nPATRONIGLUE_TOKEN_FILE='%s'\nPATRONIGLUE_WAIT=0\n", p.HTTP, token))
		if stderr, _ := hook(t, nil, "patroni-before-stop", conf); !leaves(p) {
			t.Errorf("not leaving: %q", stderr)
		}
		if stderr, _ := hook(t, env(p, "http://"+p.HTTP), "patroni-before-stop", "/nonexistent/hooks.conf"); !strings.HasPrefix(stderr, "patroni-before-stop: no settings can be read from /nonexistent/hooks.conf\n") {
			t.Errorf("no file: %q", stderr)
		}
		hook(t, nil, "patroni-before-stop", harness.WriteFile(t, "hooks.conf", "if this is no shell (")) // ends with 0 all the same
	})
	t.Run("TLS", func(t *testing.T) {
		t.Parallel()
		ca := harness.NewAuthority(t)
		ca.Make(t, "server", harness.ServerCert())
		p, _ := harness.StartWithToken(t, ca.Pair("server"))
		if stderr, _ := hook(t, append(env(p, "https://"+p.HTTP), "PATRONIGLUE_CAFILE="+ca.File("ca.crt")), "patroni-before-stop"); !leaves(p) {
			t.Errorf("not leaving: %q", stderr)
		}
	})
	t.Run("without curl", func(t *testing.T) {
		t.Parallel()
		bin := t.TempDir()
		for _, name := range []string{"cat", "timeout", "uname", "sleep"} {
			path, err := exec.LookPath(name)
			if err := errors.Join(err, os.Symlink(path, filepath.Join(bin, name))); err != nil {
				t.Fatal(err)
			}
		}
		if stderr, _ := hook(t, append(env(nil, "http://"+harness.FreePort(t)), "PATH="+bin), "patroni-before-stop"); !strings.Contains(stderr, "curl") {
			t.Errorf("stderr %q, want that it needs curl", stderr)
		}
	})
}

func TestCallback(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	p := harness.Start(t, "c.toml", "[frontend]\n"+harness.AnyPort+"[cache]\nttl = '3h'\n[backend]\ninterval = '1h'\n"+harness.NodeTables(sim, ""))
	polls := func() int { return sim.Node("pg2").Requests("/primary") }
	refresh := func(env ...string) string {
		t.Helper()
		harness.Eventually(t, harness.Soon, func() error {
			before := polls()
			time.Sleep(500 * time.Millisecond)
			after := polls()
			return harness.Want(after == before, "that pg2 is polled no more (got %d polls, then %d)", before, after)
		})
		before := polls()
		stderr, _ := hook(t, append([]string{"PATRONIGLUE_NODE=pg1"}, env...), "patroni-callback", "on_role_change", "primary", "main")
		harness.Eventually(t, harness.Soon, func() error { return harness.Want(polls() > before, "that pg2 is polled") })
		return stderr
	}
	if stderr := refresh("PATRONIGLUE_URLS=http://" + p.HTTP); stderr != "" {
		t.Errorf("stderr %q, want none", stderr)
	}
	dead, hanging := "http://"+harness.FreePort(t), silent(t)
	stderr := refresh("PATRONIGLUE_URLS=" + dead + " " + hanging + " http://" + p.HTTP + "/")
	if strings.Count(stderr, "\n") != 2 || !strings.Contains(stderr, "patroni-callback: "+dead+": curl: (7) ") || !strings.Contains(stderr, "patroni-callback: "+hanging+": ") { // curl says so, or on a slow machine timeout
		t.Errorf("stderr %q, want a line about each URL that does not answer", stderr)
	}
	stderr, _ = hook(t, []string{"PATRONIGLUE_NODE=pgX", "PATRONIGLUE_URLS=http://" + p.HTTP}, "patroni-callback", "on_stop", "replica", "main")
	if !strings.HasSuffix(stderr, `unknown node \"pgX\", want one of pg1, pg2"}`+"\n") {
		t.Errorf("unknown node: stderr %q", stderr)
	}
	conf := harness.WriteFile(t, "hooks.conf", "PATRONIGLUE_URLS=http://"+p.HTTP+"\nPATRONIGLUE_NODE=pg1\nPATRONIGLUE_CLUSTER=main\n")
	if stderr, _ = hook(t, nil, "patroni-callback", conf, "on_role_change", "primary", "main"); stderr != "" {
		t.Errorf("settings in a file: stderr %q", stderr)
	}
}

// TestCallbackWithOperator: with an operator's listener only a client with the token can make the
// daemon poll.
func TestCallbackWithOperator(t *testing.T) {
	sim := harness.NewSimulated(t, "pg1", "pg2")
	token := harness.WriteFile(t, "token", "the-token\n")
	p := harness.Start(t, "c.toml", "[frontend]\ntoken-file = '"+token+"'\n"+harness.AnyPort+"[operator]\nlisten = '"+harness.FreePort(t)+"'\n"+harness.FastPolls+harness.NodeTables(sim, ""))
	env := []string{"PATRONIGLUE_NODE=pg1", "PATRONIGLUE_URLS=http://" + p.HTTP}
	for more, want := range map[string]string{
		"PATRONIGLUE_TOKEN_FILE=" + token:      "",
		"PATRONIGLUE_TOKEN_FILE=":              `want the bearer token of token-file in [frontend]"}` + "\n",
		"PATRONIGLUE_TOKEN_FILE=/nonexistent/": `want the bearer token of token-file in [frontend]"}` + "\n",
	} {
		stderr, _ := hook(t, append(env, more), "patroni-callback", "on_role_change", "primary", "main")
		if !strings.HasSuffix(stderr, want) || want == "" && stderr != "" || strings.Contains(stderr, "the-token") {
			t.Errorf("%s: stderr %q, want %q", more, stderr, want)
		}
	}
}
