package cli

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/url"
	"time"

	"github.com/rs/zerolog"

	"patroniglue/internal/config"
	"patroniglue/internal/daemon"
	"patroniglue/node/nodetest"
)

// demo runs the whole supervisor over three simulated nodes, with a switchover at
// regular intervals.
func demo(ctx context.Context, c *call, args []string) error {
	fs := c.newFlags()
	every := fs.Duration("every", 30*time.Second, "time between two switchovers")
	listen := fs.String("listen", "", "`ADDRESS` for HTTP (default 127.0.0.1:8009, or a free port when that is taken)")
	agent := fs.String("agent", "", "`ADDRESS` for the shared agent port (default 127.0.0.1:5555, or a free port)")
	if err := c.parseAll(fs, args); err != nil {
		return err
	}
	if *every < 10*time.Second {
		return usageErrorf("-every: want at least 10s, as a switchover takes about five (got %s)", *every)
	}
	httpAddr, agentAddr := orFree(*listen, "127.0.0.1:8009"), orFree(*agent, "127.0.0.1:5555")

	names := []string{"pg1", "pg2", "pg3"}
	sim := nodetest.NewCluster("demo", names...)
	defer sim.Close()
	d, err := demoDaemon(sim, names, httpAddr, agentAddr, c.version, c.newLogger())
	if err != nil {
		return err
	}
	d.Opened = func(http, agents []net.Addr) {
		demoGuide(c.stdout, http[0].String(), agents[0].String(), *every)
	}

	ctx, cancel := context.WithCancel(ctx)
	played := make(chan struct{})
	go func() {
		defer close(played)
		play(ctx, sim, names, *every)
	}()
	defer func() { cancel(); <-played }()
	return d.Run(ctx)
}

// demoDaemon makes the supervisor of the simulated nodes.
func demoDaemon(sim *nodetest.Cluster, names []string, httpAddr, agentAddr, version string, log zerolog.Logger) (*daemon.Daemon, error) {
	cfg := config.Default()
	host, port, err := config.SplitAddress(httpAddr)
	if err != nil {
		return nil, fmt.Errorf("listening for HTTP: %w", err)
	}
	cfg.Frontend.Host, cfg.Frontend.Port, cfg.Agent.Listen = host, port, agentAddr
	for _, name := range names {
		u, err := url.Parse(sim.Node(name).URL())
		if err != nil {
			return nil, err
		}
		cfg.Nodes = append(cfg.Nodes, config.Node{Name: name, Member: name, Cluster: "demo", Scope: "demo", URL: u, Backend: cfg.Backend})
	}
	return daemon.New("", cfg, version, log)
}

// demoGuide prints what can be tried.
func demoGuide(w io.Writer, http, agent string, every time.Duration) {
	host, port, _ := net.SplitHostPort(agent)
	fmt.Fprintf(w, `patroniglue demo: three simulated nodes, the real supervisor; a switchover every %s. Ctrl-C ends it.

  the page         http://%s/
  a check          curl -i http://%[2]s/node/pg1/primary
  cluster health   curl http://%[2]s/health
  like Patroni     curl http://%[2]s/cluster
  as HAProxy asks  bash -c 'exec 3<>/dev/tcp/%s/%s; echo pg1/primary >&3; head -n 1 <&3'

`, every, http, host, port)
}

// play writes to the simulated primary all the time and switches over at regular intervals.
func play(ctx context.Context, sim *nodetest.Cluster, names []string, every time.Duration) {
	write := time.NewTicker(200 * time.Millisecond)
	defer write.Stop()
	next := time.NewTicker(every)
	defer next.Stop()
	for i := 1; ; {
		select {
		case <-ctx.Done():
			return
		case <-write.C:
			sim.Write(8192)
		case <-next.C:
			if sim.SwitchoverSlowly(ctx, names[i%len(names)], nodetest.MeasuredSwitchover) != nil {
				return // ctx ended
			}
			i++
		}
	}
}

// orFree returns addr, or the usual address where none is given, or a free port where
// that one is taken.
func orFree(addr, usual string) string {
	if addr != "" {
		return addr
	}
	ln, err := net.Listen("tcp", usual)
	if err != nil {
		return "127.0.0.1:0"
	}
	ln.Close()
	return usual
}
