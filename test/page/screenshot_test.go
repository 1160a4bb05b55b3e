package page

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/rs/zerolog"

	"patroniglue/agentapi"
	"patroniglue/cluster"
	"patroniglue/httpapi"
	"patroniglue/node"
	"patroniglue/node/nodetest"
	"patroniglue/test/harness"
)

var screenshots = flag.String("screenshots", "", "`DIR` for the README's pictures of the status page; without it they are thrown away")

// TestScreenshots makes the README's pictures (./build.sh screenshots): the real supervisor's page
// of a simulated cluster.
func TestScreenshots(t *testing.T) {
	begin := time.Duration(0)
	if *screenshots == "" {
		begin = 26*time.Hour + 30*time.Minute // a day takes a minute, even in fake time
	}
	server := httptest.NewServer(night(t, begin))
	t.Cleanup(server.Close)
	tab := harness.StartBrowser(t).Open(t, server.URL+"/")
	tab.AwaitLive(t)
	tab.IsWellMade(t, harness.Viewports...) // with all that a day leaves in its graphs
	for _, shot := range []struct {
		name string
		harness.Viewport
	}{
		{"page-light", harness.Viewport{Width: 1200, Height: 1530, Dark: false}},
		{"page-dark", harness.Viewport{Width: 1200, Height: 1530, Dark: true}},
		{"page-narrow", harness.Viewport{Width: 390, Height: 1400, Dark: false}},
	} {
		tab.SetViewport(t, shot.Viewport)
		harness.Call(t, tab, emulation.SetScrollbarsHidden, emulation.SetScrollbarsHiddenParams{Hidden: true})
		picture, err := chromedp.Run(tab.Ctx, chromedp.CaptureScreenshot())
		if err != nil {
			t.Fatal(err)
		}
		if *screenshots == "" {
			continue
		}
		small := fewColours(t, picture)
		t.Logf("%s: %d kB, from %d", shot.name, len(small)>>10, len(picture)>>10)
		if len(small) > 150<<10 {
			t.Errorf("%s: %d bytes, too many for a README", shot.name, len(small))
		}
		if err := os.WriteFile(filepath.Join(*screenshots, shot.name+".png"), small, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// recorded is answers by path. That of a stream is sent again and again.
type recorded map[string]*httptest.ResponseRecorder

func (r recorded) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	a, ok := r[req.URL.Path]
	if !ok {
		http.NotFound(w, req)
		return
	}
	maps.Copy(w.Header(), a.Header())
	w.WriteHeader(a.Code)
	w.Write(a.Body.Bytes())
	for a.Header().Get("Content-Type") == "text/event-stream" {
		if http.NewResponseController(w).Flush() != nil {
			return
		}
		select {
		case <-req.Context().Done():
			return
		case <-time.After(time.Second):
		}
		w.Write(a.Body.Bytes())
	}
}

// night records the page's answers at 3 o'clock in the morning, after a switchover in the evening
// and the loss of a primary, and with a replica that lags. Time is fake, from midnight on.
func night(t *testing.T, begin time.Duration) recorded {
	answers := make(recorded)
	synctest.Test(t, func(t *testing.T) {
		midnight := time.Now()
		time.Sleep(begin)
		nw := nodetest.NewNet()
		sim := nodetest.Options{
			Listen: nw.Listen, Addr: func(name string) string { return name + ".example:8008" },
		}.NewCluster("shop", "pg1", "pg2", "pg3")
		defer sim.Close()
		transport := node.NewTransport()
		transport.DialContext = nw.DialContext
		shop := cluster.ClusterConfig{Name: "shop", Scope: "shop"}
		for _, n := range sim.Nodes() {
			u, err := url.Parse(n.URL())
			if err != nil {
				t.Fatal(err)
			}
			shop.Nodes = append(shop.Nodes, cluster.NodeConfig{
				Name: n.Name(), Member: n.Name(), Postgres: n.Name() + ".example:5432", Fall: 3,
				Client:   node.NewClient(node.Options{URL: u, Timeout: 3 * time.Second, Transport: transport}),
				Interval: 2 * time.Second, PrimaryInterval: time.Second, FastInterval: 100 * time.Millisecond,
			})
		}
		sup := cluster.New(cluster.Config{
			TTL: 5 * time.Second, Clusters: []cluster.ClusterConfig{shop},
			Rules: cluster.Rules{MaxLag: 100 << 20, LagHold: 10 * time.Second, SameTimeline: true},
		})
		handler := httpapi.New(httpapi.Config{Supervisor: sup, Version: "2.0.0", AgentLine: agentapi.AppendLine, Log: zerolog.Nop()}).Handler()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- sup.Run(ctx) }()

		chance := rand.New(rand.NewPCG(1, 2))
		lag, growth := int64(0), int64(0)
		until := func(hour, minute, second int) {
			for {
				left := time.Until(midnight.Add(time.Duration((hour*60+minute)*60+second) * time.Second))
				if left <= 0 {
					return
				}
				for _, n := range sim.Nodes() {
					n.SetDelay(time.Duration((2 + 3*chance.ExpFloat64()) * float64(time.Millisecond)))
				}
				sim.Write(chance.Int64N(1 << 20))
				if growth > 0 {
					lag += chance.Int64N(growth)
					sim.Node("pg3").SetLag(lag)
				}
				time.Sleep(min(left, 5*time.Second))
			}
		}
		if begin < 21*time.Hour {
			until(21, 14, 9)
			sim.SwitchoverSlowly(ctx, "pg2", nodetest.MeasuredSwitchover)
		}
		until(26, 31, 31)
		sim.FailoverSlowly(ctx, "pg3", nodetest.MeasuredFailover)
		until(26, 36, 2)
		for _, n := range sim.Nodes() {
			sim.Revive(n.Name()) // one of them is dead
		}
		sim.SwitchoverSlowly(ctx, "pg1", nodetest.MeasuredSwitchover)
		until(26, 56, 0)
		growth = 4 << 20
		until(27, 7, 0)

		for _, path := range []string{"/", "/assets/page.css", "/assets/graph.css", "/assets/page.js", "/assets/warning.svg"} {
			answers.record(ctx, handler, path)
		}
		moment, cancelStream := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancelStream()
		answers.record(moment, handler, "/live")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return answers
}

func (r recorded) record(ctx context.Context, handler http.Handler, path string) {
	r[path] = httptest.NewRecorder()
	handler.ServeHTTP(r[path], httptest.NewRequestWithContext(ctx, "GET", path, nil))
}

// fewColours makes a picture small: it keeps the 256 most frequent colours, and replaces all others
// by the nearest of them.
func fewColours(t *testing.T, from []byte) []byte {
	t.Helper()
	in, err := png.Decode(bytes.NewReader(from))
	if err != nil {
		t.Fatal(err)
	}
	all := image.NewNRGBA(in.Bounds())
	draw.Draw(all, all.Rect, in, all.Rect.Min, draw.Src)
	count := make(map[color.NRGBA]int)
	for c := range slices.Chunk(all.Pix, 4) {
		count[color.NRGBA{c[0], c[1], c[2], c[3]}]++
	}
	most := slices.SortedFunc(maps.Keys(count), func(a, b color.NRGBA) int {
		return cmp.Or(cmp.Compare(count[b], count[a]), cmp.Compare(a.R, b.R), cmp.Compare(a.G, b.G), cmp.Compare(a.B, b.B))
	})
	var palette color.Palette
	for _, c := range most[:min(len(most), 256)] {
		palette = append(palette, c)
	}
	index := make(map[color.NRGBA]uint8)
	for c := range count {
		index[c] = uint8(palette.Index(c))
	}
	out := image.NewPaletted(all.Rect, palette)
	for i := range out.Pix {
		c := all.Pix[4*i:]
		out.Pix[i] = index[color.NRGBA{c[0], c[1], c[2], c[3]}]
	}
	var buf bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&buf, out); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
