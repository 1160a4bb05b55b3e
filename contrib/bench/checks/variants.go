//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// variant is something that answers checks.
type variant struct {
	name, what string
	// What has to be installed, and its Debian package. Empty: the lab's check has asked for it, or this checkout has it.
	program, debian string
	path            string // what is asked for; {node} is the node's name
	once            bool   // the server closes after each answer: there is no keep-alive
	agent           bool   // HAProxy's agent check, not HTTP
	slow            bool   // patroniglue with fast-checks = false
	// Writes its files and gives its command line; patroni is the address of the node's REST API. nil: the lab's Patroni.
	command func(b *bench, v variant, patroni string) ([]string, error)
}

// The names of the variants that the others are compared with.
const (
	cacheName  = "nginx"
	staticName = "static"
)

var variants = []variant{
	{name: "patroni", what: "Patroni itself, with its PostgreSQL", path: "/primary", once: true},
	{name: cacheName, what: "nginx proxy_cache before Patroni", path: "/primary", program: "nginx", debian: "nginx-light", command: (*bench).nginxCache},
	{name: staticName, what: "nginx return 200", path: "/primary", program: "nginx", debian: "nginx-light", command: (*bench).nginxStatic},
	{name: "haproxy", what: "HAProxy http-request return", path: "/primary", program: "haproxy", debian: "haproxy", command: (*bench).haproxy},
	{name: "ours", what: "patroniglue, HTTP", path: "/node/{node}/primary", command: (*bench).patroniglue},
	{name: "nethttp", what: "patroniglue, HTTP, fast-checks = false", path: "/node/{node}/primary", slow: true, command: (*bench).patroniglue},
	{name: "agent", what: "patroniglue, agent check", path: "{node}/primary", once: true, agent: true, command: (*bench).patroniglue},
}

func findVariant(name string) (variant, error) {
	var names []string
	for _, v := range variants {
		if v.name == name {
			return v, nil
		}
		names = append(names, v.name)
	}
	return variant{}, fmt.Errorf("want some of %s (got %q)", strings.Join(names, ", "), name)
}

// load is the check of this variant: for a new connection what HAProxy's httpchk or agent-send say, else HTTP/1.1.
func (b *bench) load(v variant, keep bool) (load, error) {
	l := load{keep: keep, connections: b.connections, duration: b.duration, complete: httpAnswer}
	addr := b.lab.HTTP
	path := strings.ReplaceAll(v.path, "{node}", b.node.Name)
	switch {
	case v.agent:
		addr = b.lab.Agent
		l.complete = agentAnswer
		l.request = []byte(path + "\n")
	case keep:
		l.request = []byte("GET " + path + " HTTP/1.1\r\nHost: " + addr + "\r\n\r\n")
	default:
		l.request = []byte("GET " + path + " HTTP/1.0\r\n\r\n")
	}
	if v.command == nil {
		addr = b.node.REST
	}
	to, err := netip.ParseAddrPort(addr)
	l.addr = &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}
	return l, err
}

// server is what answers the checks of a variant.
type server struct {
	relay *relay   // to Patroni; nil = it is asked itself
	own   *process // nil = the lab's Patroni
	pids  []int    // the processes whose time counts, with all that descend from them
}

// start starts what answers, and waits until it does. stop is to be called also when it fails.
func (b *bench) start(ctx context.Context, v variant) (s server, err error) {
	if v.command == nil {
		patroni, err := pidIn(filepath.Join(b.lab.Dir, "pid", b.node.Name))
		if err != nil {
			return s, err
		}
		postmaster, err := pidIn(filepath.Join(b.node.Data, "postmaster.pid"))
		s.pids = []int{patroni, postmaster}
		return s, err
	}
	if err := errors.Join(os.RemoveAll(b.run), os.Mkdir(b.run, 0o755)); err != nil {
		return s, err
	}
	if s.relay, err = startRelay(b.node.REST); err != nil {
		return s, err
	}
	command, err := v.command(b, v, s.relay.Addr().String())
	if err != nil {
		return s, err
	}
	if s.own, err = b.spawn(command[0], command[1:]...); err != nil {
		return s, err
	}
	s.pids = []int{s.own.cmd.Process.Pid}
	l, err := b.load(v, false)
	if err != nil {
		return s, err
	}
	return s, b.ready(ctx, s.own, l)
}

func (s server) stop() {
	if s.own != nil {
		s.own.stop()
	}
	if s.relay != nil {
		s.relay.close()
	}
}

// nginx is the command line for one server, with what Debian's nginx.conf sets, but no log of requests and no end to a
// connection after 1000 of them.
func (b *bench) nginx(http, server string) ([]string, error) {
	config := filepath.Join(b.run, "nginx.conf")
	return []string{"nginx", "-e", "stderr", "-p", b.run, "-c", config}, os.WriteFile(config, fmt.Appendf(nil, `
user www-data;
daemon off;
pid nginx.pid;
worker_processes auto;
events { worker_connections 768; }
http {
	access_log off;
	tcp_nopush on;
	keepalive_requests 1000000000;
	%s
	server {
		listen %s;
		location / { %s }
	}
}
`, http, b.lab.HTTP, server), 0o644)
}

// nginxCache asks Patroni once a second. Other checks do not wait for it; the one that found the answer too old does,
// though proxy_cache_background_update gives it the old one: nginx 1.22 seems to end its connection when Patroni has answered.
func (b *bench) nginxCache(_ variant, patroni string) ([]string, error) {
	return b.nginx("proxy_cache_path cache keys_zone=patroni:1m;", `
			proxy_pass http://`+patroni+`;
			proxy_cache patroni;
			proxy_cache_valid any 1s;
			proxy_cache_lock on;
			proxy_cache_use_stale updating error timeout;
			proxy_cache_background_update on;
		`)
}

// nginxStatic answers with as many bytes as Patroni.
func (b *bench) nginxStatic(_ variant, _ string) ([]string, error) {
	return b.nginx("default_type application/json;", "return 200 "+strings.Repeat("x", b.answer)+";")
}

func (b *bench) haproxy(_ variant, _ string) ([]string, error) {
	answer, config := filepath.Join(b.run, "answer"), filepath.Join(b.run, "haproxy.cfg")
	return []string{"haproxy", "-db", "-f", config}, errors.Join(
		os.WriteFile(answer, bytes.Repeat([]byte("x"), b.answer), 0o644),
		os.WriteFile(config, fmt.Appendf(nil, `
defaults
	mode http
	timeout client 30s
frontend checks
	bind %s
	http-request return status 200 content-type application/json file %s
`, b.lab.HTTP, answer), 0o644))
}

// patroniglue watches the lab's whole cluster, the node asked about through the relay.
func (b *bench) patroniglue(v variant, patroni string) ([]string, error) {
	text, err := os.ReadFile(b.lab.Config)
	if err != nil {
		return nil, err
	}
	if v.slow {
		text = bytes.Replace(text, []byte("[frontend]\n"), []byte("[frontend]\nfast-checks = false\n"), 1)
	}
	config := filepath.Join(b.run, "patroniglue.toml")
	text = bytes.ReplaceAll(text, []byte(b.node.URL), []byte("http://"+patroni))
	return []string{b.program, "-config", config}, os.WriteFile(config, text, 0o644)
}
