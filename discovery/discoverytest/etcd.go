// Package discoverytest starts an etcd of one member on loopback, for tests.
package discoverytest

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Etcd is a running etcd, with TLS where Start has --cert-file.
type Etcd struct {
	URL    string
	Client *clientv3.Client // for tests to write keys as Patroni does

	t       testing.TB
	dir     string
	client  string // host:port
	peer    string
	args    []string
	mu      sync.Mutex
	process *exec.Cmd // guarded by mu, as is all below
	log     bytes.Buffer
}

// Start starts etcd with additional arguments. Where etcd is not installed it skips the
// test, or with PATRONIGLUE_LAB=required fails it.
func Start(t testing.TB, args ...string) *Etcd {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("PATRONIGLUE_LAB") == "required" {
			t.Fatalf("%v: want Debian's package etcd-server", err)
		}
		t.Skipf("%v: want Debian's package etcd-server", err)
	}
	e := &Etcd{t: t, dir: t.TempDir(), client: freePort(t), peer: freePort(t), args: args}
	scheme, secure := "http://", (*tls.Config)(nil)
	if slices.Contains(args, "--cert-file") {
		scheme, secure = "https://", &tls.Config{InsecureSkipVerify: true}
	}
	e.URL = scheme + e.client
	e.Run()
	t.Cleanup(e.Stop)
	var err error
	e.Client, err = clientv3.New(clientv3.Config{Endpoints: []string{e.URL}, MaxCallSendMsgSize: 64 << 20, MaxCallRecvMsgSize: 64 << 20, TLS: secure, Logger: clientv3.NewCtxClient(context.Background()).GetLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Client.Close() })
	e.Put("/discoverytest", "ready") // waits until it answers
	e.Delete("/discoverytest")
	return e
}

func freePort(t testing.TB) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// Run starts etcd again after Stop, with its data.
func (e *Etcd) Run() {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	peer := "http://" + e.peer
	e.process = exec.Command("etcd", append([]string{
		"--name", "test", "--data-dir", filepath.Join(e.dir, "data"), "--log-level", "warn", "--logger", "zap",
		"--listen-client-urls", e.URL, "--advertise-client-urls", e.URL, "--unsafe-no-fsync",
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "test=" + peer,
	}, e.args...)...)
	e.process.Stdout, e.process.Stderr = &e.log, &e.log
	if err := e.process.Start(); err != nil {
		e.t.Fatal(err)
	}
}

// Stop kills etcd. Its data stays for Run.
func (e *Etcd) Stop() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.process == nil {
		return
	}
	_ = e.process.Process.Kill()
	_ = e.process.Wait()
	e.process = nil
	if e.t.Failed() {
		text := e.log.String()
		e.t.Logf("the end of etcd's log:\n%s", text[max(0, len(text)-2000):])
	}
}

// Wipe stops etcd, removes its data and starts it, so that its revision starts again
// from 1, as after a backup was restored.
func (e *Etcd) Wipe() {
	e.Stop()
	if err := os.RemoveAll(filepath.Join(e.dir, "data")); err != nil {
		e.t.Fatal(err)
	}
	e.Run()
}

// Freeze stops etcd with SIGSTOP: its connections stay open and get no answer. Thaw
// ends that.
func (e *Etcd) Freeze() { e.signal(syscall.SIGSTOP) }

// Thaw ends Freeze.
func (e *Etcd) Thaw() { e.signal(syscall.SIGCONT) }

func (e *Etcd) signal(s syscall.Signal) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.process.Process.Signal(s); err != nil {
		e.t.Fatal(err)
	}
}

// Put writes a key. It waits up to 20 s for etcd to answer.
func (e *Etcd) Put(key, value string) {
	e.t.Helper()
	e.do(func(ctx context.Context) error {
		_, err := e.Client.Put(ctx, key, value)
		return err
	})
}

// Delete removes a key.
func (e *Etcd) Delete(key string) {
	e.t.Helper()
	e.do(func(ctx context.Context) error {
		_, err := e.Client.Delete(ctx, key)
		return err
	})
}

// DeleteAll removes all keys with a prefix.
func (e *Etcd) DeleteAll(prefix string) {
	e.t.Helper()
	e.do(func(ctx context.Context) error {
		_, err := e.Client.Delete(ctx, prefix, clientv3.WithPrefix())
		return err
	})
}

// Announce writes a member's key as Patroni does.
func (e *Etcd) Announce(scope, name, apiURL string) {
	e.t.Helper()
	e.Put("/service/"+scope+"/members/"+name, Document(apiURL))
}

// Document is the document that Patroni writes for a member.
func Document(apiURL string) string {
	return fmt.Sprintf(`{"conn_url":"postgres://127.0.0.1:5432/postgres","api_url":"%s/patroni","state":"running","role":"replica","version":"3.0.2","xlog_location":%d,"timeline":1}`,
		apiURL, time.Now().UnixNano())
}

func (e *Etcd) do(f func(context.Context) error) {
	e.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := f(ctx); err != nil {
		e.t.Fatalf("asking etcd: %v", err)
	}
}
