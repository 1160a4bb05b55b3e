package faults

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

// TestFaultsOfTheNetwork plays the faults that need a network of their own, for packets that are
// dropped and a DNS that fails: a namespace with nothing but loopback. The program is a process
// in it.
func TestFaultsOfTheNetwork(t *testing.T) {
	n := startNetworked(t)
	t.Run("packets dropped in both directions", n.packetsDropped)
	t.Run("no route to the host for a second", n.noRoute)
	t.Run("DNS name that hangs", n.nameHangs)
	t.Run("DNS name that vanishes", n.nameVanishes)
	t.Run("DNS name that changes its address", n.nameMoves)
}

// pg1, the primary, listens on every address.
const (
	oldAddress, newAddress = "127.0.0.11", "127.0.0.21"
	pg1Port                = 8011
)

type networked struct {
	*namespace
	sim *nodetest.Cluster
	dns *nameServer
	p   *harness.Program
}

func startNetworked(t *testing.T) *networked {
	t.Helper()
	skip := t.Skipf
	if os.Getenv("PATRONIGLUE_LAB") == "required" {
		skip = t.Fatalf
	}
	if os.Geteuid() != 0 {
		skip("FAULTS OF THE NETWORK NOT TESTED: want root, for a network of its own")
	}
	if _, err := exec.LookPath("nft"); err != nil {
		skip("FAULTS OF THE NETWORK NOT TESTED: want nft, of Debian's package nftables: %v", err)
	}
	ns, err := newNamespace(t)
	if err != nil {
		skip("FAULTS OF THE NETWORK NOT TESTED: want a network namespace: %v", err)
	}
	n := &networked{namespace: ns, dns: &nameServer{records: map[string]net.IP{
		"pg1.test.": net.ParseIP(oldAddress), "pg2.test.": net.IPv4(127, 0, 0, 12), "pg3.test.": net.IPv4(127, 0, 0, 13),
	}}}
	n.dns.serve(t, ns)
	listen := map[string]string{"pg1": fmt.Sprintf("0.0.0.0:%d", pg1Port), "pg2": "127.0.0.12:8012", "pg3": "127.0.0.13:8013"}
	n.sim = nodetest.Options{Listen: ns.listen, Addr: func(name string) string { return listen[name] }}.NewCluster("main", "pg1", "pg2", "pg3")
	t.Cleanup(n.sim.Close)

	var text strings.Builder
	text.WriteString("[frontend]\n" + harness.AnyPort + "[agent]\nlisten = '127.0.0.1:0'\n[cache]\nttl = '2s'\n" + harness.FastPolls + "timeout = '500ms'\n")
	for _, node := range n.sim.Nodes() {
		text.WriteString(fmt.Sprintf("[[node]]\nname = '%s'\nurl = 'http://%s.test:%s'\n", node.Name(), node.Name(), harness.PortOf(node.Addr())))
	}
	// The process has a resolv.conf of its own.
	cmd := exec.Command("nsenter", "--net="+ns.path, "unshare", "--mount", "sh", "-c", `mount --bind "$1" /etc/resolv.conf && exec "$2" -config "$3"`, "sh",
		harness.WriteFile(t, "resolv.conf", "nameserver 127.0.0.1\n"), harness.BuiltBinary(t), harness.WriteFile(t, "c.toml", text.String()))
	n.p = harness.StartProcess(t, text.String(), cmd)
	n.says(t, "pg1", 200, "holds the leader lock", "ready up 100% #primary")
	return n
}

// says waits until HTTP and the agent answer a node's primary check so.
func (n *networked) says(t *testing.T, node string, status int, reason, agent string) {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	harness.Eventually(t, 20*time.Second, func() error {
		resp, err := client.Get("http://" + n.p.HTTP + "/node/" + node + "/primary")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return err
		}
		if resp.StatusCode != status || !strings.Contains(string(body), reason) {
			return fmt.Errorf("HTTP says of %s %s: %s; want %d and %q", node, resp.Status, body, status, reason)
		}
		conn, err := n.dial(t.Context(), "tcp", n.p.Agents[0])
		if err != nil {
			return err
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(conn, node+"/primary\n"); err != nil {
			return err
		}
		if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, agent) {
			return fmt.Errorf("the agent says of %s %q, %v; want %q", node, line, err, agent)
		}
		return nil
	})
}

func (n *networked) packetsDropped(t *testing.T) {
	n.drop(t, oldAddress)
	var before map[string]bool
	most := harness.Record(t, 1, 5*time.Millisecond, func() (both int) {
		now := n.connecting(t)
		for socket := range now {
			if before[socket] { // a table that changes while it is read may have one that ends and the next
				both++
			}
		}
		before = now
		return both
	})
	n.says(t, "pg1", 503, "stale: last answer ", "ready down #stale: last answer ")
	n.says(t, "pg1", 503, "no answer within 500ms: connecting to 127.0.0.11:8011", "ready down #stale: last answer ")
	n.says(t, "pg2", 503, "role is replica", "maint down #replica") // which works
	for _, sockets := range most.Stop() {
		if sockets > 1 {
			t.Errorf("%d connections to pg1 at once", sockets)
			break
		}
	}
	n.mend(t)
	n.says(t, "pg1", 200, "holds the leader lock", "ready up 100% #primary")
}

// noRoute is a blip of our own network: clients keep their connections to pg1, and it stays.
func (n *networked) noRoute(t *testing.T) {
	if _, err := exec.LookPath("ip"); err != nil {
		t.Skipf("want ip, of Debian's package iproute2: %v", err)
	}
	client := http.Client{Transport: &http.Transport{DialContext: n.dial, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	get := func(path string) (int, string) {
		resp, err := client.Get("http://" + n.p.HTTP + path)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Error(err)
		}
		return resp.StatusCode, string(body)
	}
	statuses := harness.Record(t, 1, 10*time.Millisecond, func() int { status, _ := get("/node/pg1/primary"); return status })
	n.ip(t, "route", "add", "unreachable", oldAddress+"/32", "table", "local")
	time.Sleep(time.Second)
	n.ip(t, "route", "del", "unreachable", oldAddress+"/32", "table", "local")
	time.Sleep(time.Second)
	seen := statuses.Stop()
	for _, status := range seen {
		if status != http.StatusOK {
			t.Errorf("status %d, want 200 throughout", status)
			break
		}
	}
	if len(seen) < 50 {
		t.Errorf("asked %d times in two seconds", len(seen))
	}
	_, metrics := get("/metrics")
	failed := regexp.MustCompile(`(?m)^patroniglue_poll_failures_total\{.*kind="no_route".*\} ([0-9]+)$`).FindStringSubmatch(metrics)
	if failed == nil {
		t.Fatal("no counter of polls without a route")
	}
	if polls, _ := strconv.Atoi(failed[1]); polls < 3 {
		t.Errorf("%d polls found no route, want more than the fall of 3", polls)
	}
}

func (n *networked) ip(t *testing.T, args ...string) {
	t.Helper()
	cmd := exec.Command("ip", args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.do(cmd.Run); err != nil {
		t.Fatalf("ip %q: %v: %s", args, err, &out)
	}
}

func (n *networked) nameHangs(t *testing.T) {
	n.dns.set(func() { n.dns.hangs = "pg1.test." })
	n.says(t, "pg1", 503, "pg1.test", "ready down #stale: last answer ")
	n.says(t, "pg2", 503, "role is replica", "maint down #replica")
	n.dns.set(func() { n.dns.hangs = "" })
	n.says(t, "pg1", 200, "holds the leader lock", "ready up 100% #primary")
}

func (n *networked) nameVanishes(t *testing.T) {
	n.dns.set(func() { delete(n.dns.records, "pg1.test.") })
	n.says(t, "pg1", 503, "lookup pg1.test on 127.0.0.1:53: no such host", "ready down #stale: last answer ")
	n.says(t, "pg2", 503, "role is replica", "maint down #replica")
	n.dns.set(func() { n.dns.records["pg1.test."] = net.ParseIP(oldAddress) })
	n.says(t, "pg1", 200, "holds the leader lock", "ready up 100% #primary")
}

// nameMoves: a name is looked up for each poll, so a node that moves is found.
func (n *networked) nameMoves(t *testing.T) {
	n.drop(t, oldAddress)
	n.says(t, "pg1", 503, "stale: last answer ", "ready down #stale: last answer ")
	n.dns.set(func() { n.dns.records["pg1.test."] = net.ParseIP(newAddress) })
	n.says(t, "pg1", 200, "holds the leader lock", "ready up 100% #primary")
}

// drop drops what goes to pg1 at an address, and what comes back.
func (n *networked) drop(t *testing.T, address string) {
	t.Helper()
	n.nft(t, fmt.Sprintf(`table ip faults {
	chain in {
		type filter hook input priority 0
		ip daddr %[1]s tcp dport %[2]d drop
		ip saddr %[1]s tcp sport %[2]d drop
	}
}`, address, pg1Port))
}

func (n *networked) mend(t *testing.T) {
	t.Helper()
	n.nft(t, "delete table ip faults")
}

func (n *networked) nft(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.do(cmd.Run); err != nil {
		t.Fatalf("nft: %v: %s", err, &out)
	}
}

// connecting returns the sockets that connect to pg1, by their own address (proc(5), net/tcp: 02 is SYN_SENT).
func (n *networked) connecting(t *testing.T) map[string]bool {
	sockets := make(map[string]bool)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/tcp", n.p.Process.Pid))
	if err != nil {
		t.Error(err)
	}
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 3 && strings.HasSuffix(f[2], fmt.Sprintf(":%04X", pg1Port)) && f[3] == "02" {
			sockets[f[1]] = true
		}
	}
	return sockets
}

// namespace is a network with nothing but loopback. Sockets that are opened through it are in it.
type namespace struct {
	calls chan func()
	path  string // of the file by which nsenter finds it
}

func newNamespace(t *testing.T) (*namespace, error) {
	ns := &namespace{calls: make(chan func())}
	ready := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // and never unlocked: so the thread, which is in another network, ends with this goroutine
		err := unix.Unshare(unix.CLONE_NEWNET)
		ns.path = fmt.Sprintf("/proc/%d/task/%d/ns/net", os.Getpid(), unix.Gettid())
		if err == nil {
			err = loopbackUp()
		}
		ready <- err
		for f := range ns.calls {
			f()
		}
	}()
	err := <-ready
	t.Cleanup(func() { close(ns.calls) })
	return ns, err
}

// do calls f on the thread that is in the namespace.
func (ns *namespace) do(f func() error) (err error) {
	done := make(chan struct{})
	ns.calls <- func() { err = f(); close(done) }
	<-done
	return err
}

func (ns *namespace) listen(network, addr string) (ln net.Listener, err error) {
	err = ns.do(func() error { ln, err = net.Listen(network, addr); return err })
	return ln, err
}

func (ns *namespace) dial(ctx context.Context, network, addr string) (conn net.Conn, err error) {
	err = ns.do(func() error { conn, err = new(net.Dialer).DialContext(ctx, network, addr); return err })
	return conn, err
}

func loopbackUp() error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, lo)
}

// nameServer answers from a map, or not at all (RFC 1035).
type nameServer struct {
	mu      sync.Mutex
	records map[string]net.IP // guarded by mu; changed through set
	hangs   string            // queries for this name are not answered
}

func (s *nameServer) set(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *nameServer) serve(t *testing.T, ns *namespace) {
	t.Helper()
	var conn net.PacketConn
	if err := ns.do(func() (err error) { conn, err = net.ListenPacket("udp4", "127.0.0.1:53"); return err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 1500)
		for {
			n, peer, err := conn.ReadFrom(buf)
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if answer := s.answer(buf[:n]); answer != nil {
				conn.WriteTo(answer, peer)
			}
		}
	}()
}

func (s *nameServer) answer(q []byte) []byte {
	const header, typeA = 12, 1
	name, at := "", header
	for at < len(q) && q[at] != 0 {
		label := int(q[at])
		if at+1+label >= len(q) {
			return nil
		}
		name += string(q[at+1:at+1+label]) + "."
		at += 1 + label
	}
	end := at + 5 // the root, type and class
	if end > len(q) {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if name == s.hangs {
		return nil
	}
	a := append([]byte{q[0], q[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, q[header:end]...)
	ip := s.records[name].To4()
	switch asked := int(q[at+1])<<8 | int(q[at+2]); {
	case ip == nil:
		a[3] |= 3 // no such name
	case asked == typeA:
		a[7] = 1
		a = append(a, 0xc0, header, 0, typeA, 0, 1, 0, 0, 0, 0, 0, 4) // with a TTL of 0
		a = append(a, ip...)
	}
	return a
}
