package faults

import (
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"patroniglue/cluster/clustertest"
	"patroniglue/node/nodetest"
)

// walkSeed is the variable with the seed of the only walk, walkSteps that with its length.
const walkSeed, walkSteps = "PATRONIGLUE_WALK_SEED", "PATRONIGLUE_WALK_STEPS"

// TestWalkOverFaults plays random sequences of faults, and mixtures that the table does not have.
// After each step it checks what must hold at any moment; from time to time it mends everything,
// and all must be well soon. cluster.TestWhateverHappensThereIsOnePrimaryAtMost does the same
// with answers that no Patroni gives.
//
// A walk that failed is repeated, and made longer, by
//
//	PATRONIGLUE_WALK_SEED=7 PATRONIGLUE_WALK_STEPS=10000 go test -run TestWalkOverFaults ./test/faults
func TestWalkOverFaults(t *testing.T) {
	steps, seeds := 200, []uint64{10, 1, 2, 3, 4, 5, 6, 7, 8, 9} // the tenth speaks https
	if clustertest.Race {
		seeds = seeds[:4] // ./build.sh test runs all of them without the race detector, too
	}
	if text := os.Getenv(walkSteps); text != "" {
		steps = parsed(t, walkSteps, text)
	}
	if text := os.Getenv(walkSeed); text != "" {
		seeds = []uint64{uint64(parsed(t, walkSeed, text))}
	}
	for _, seed := range seeds {
		t.Run(fmt.Sprintf("%s=%d", walkSeed, seed), func(t *testing.T) {
			t.Parallel()
			steps := steps
			synctest.Test(t, func(t *testing.T) {
				https := seed%10 == 0
				if https && os.Getenv(walkSteps) == "" {
					steps /= 2 // handshakes take time
				}
				w := &walk{faulty: startFaulty(t, https), r: rand.New(rand.NewPCG(seed, 5)), since: make(map[string]time.Time)}
				for i := range steps {
					w.step()
					if i%50 == 49 || i == steps-1 {
						w.mend()
					}
					if t.Failed() {
						t.Fatalf("at step %d of seed %d", i, seed)
					}
				}
				w.neverTooMuch()
			})
		})
	}
}

func parsed(t *testing.T, name, text string) int {
	t.Helper()
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 {
		t.Fatalf("%s: want a number (got %q)", name, text)
	}
	return n
}

type walk struct {
	*faulty
	r     *rand.Rand
	since map[string]time.Time // when a node began to answer nothing that counts
	slept time.Time            // when the machine was suspended last
	did   []string             // the latest steps, shown when a check fails
}

func (w *walk) node() *nodetest.Node { return w.sim.Nodes()[w.r.IntN(len(w.sim.Nodes()))] }

// step plays one random fault, and checks a few times what must hold.
func (w *walk) step() {
	n := w.node()
	did := ""
	switch k := w.r.IntN(20); k {
	case 0, 1, 2, 3:
		f := nodetest.Freeze + nodetest.Fault(w.r.IntN(int(nodetest.Refuse)))
		if f == nodetest.Huge && w.r.IntN(4) > 0 {
			f = nodetest.Status500 // it costs much time
		}
		n.SetFault(f)
		did = f.String()
	case 4:
		how := []link{noPackets, noWord}[w.r.IntN(2)]
		w.links.Store(n.Name(), how)
		did = string(how)
	case 5, 6, 7, 8:
		n.Thaw()
		w.links.Delete(n.Name())
		did = "works"
	case 9:
		d := time.Duration(w.r.Int64N(int64(4 * time.Second)))
		n.SetDelay(d)
		did = "answers after " + d.String()
	case 10:
		n.SetDelay(0)
		did = "answers at once"
	case 11:
		w.sim.Switchover(n.Name())
		did = "takes over"
	case 12:
		w.sim.Promote(n.Name())
		did = "is promoted"
	case 13:
		w.sim.BeginPromotion(n.Name())
		did = "begins its promotion"
	case 14:
		other, unlocked := w.node().Name(), w.r.IntN(2) == 0
		w.sim.SplitBrain(unlocked, n.Name(), other)
		did = fmt.Sprintf("and %s claim, unlocked: %t", other, unlocked)
	case 15:
		failsafe := w.r.IntN(2) == 0
		w.sim.LoseDCS(failsafe)
		did = fmt.Sprintf("the DCS is lost, failsafe: %t", failsafe)
	case 16:
		w.sim.RestoreDCS()
		did = "the DCS is back"
	case 17:
		paused := w.r.IntN(2) == 0
		w.sim.SetPause(paused)
		did = fmt.Sprintf("pause: %t", paused)
	case 18:
		state := []string{"running", "crashed", "starting", "stopping", "stopped", "never heard of"}[w.r.IntN(6)]
		n.Set(func(s *nodetest.State) { s.State, s.SQL = state, state == "running" && w.r.IntN(3) > 0 })
		did = "PostgreSQL " + state
	case 19:
		if w.good != nil && w.r.IntN(2) == 0 {
			w.cert.Store([]*tls.Certificate{w.good, w.expired, w.foreign, w.self}[w.r.IntN(4)])
			did = "another certificate"
			break
		}
		w.faulty.slept.Add(int64(time.Second) + w.r.Int64N(int64(time.Hour)))
		w.slept = time.Now()
		did = "suspended"
	}
	w.did = append(w.did[max(0, len(w.did)-30):], fmt.Sprintf("%s %s: %s", time.Now().Format("04:05.000"), n.Name(), did))
	w.note()
	for range 1 + w.r.IntN(4) {
		w.see()
		time.Sleep(time.Duration(w.r.ExpFloat64() * float64(120*time.Millisecond)))
	}
	if w.r.IntN(15) == 0 {
		time.Sleep(time.Duration(w.r.Int64N(int64(ttl + interval))))
	}
	w.see()
}

// note records since when each node cannot have given an answer that counts.
func (w *walk) note() {
	for _, n := range w.sim.Nodes() {
		_, unlinked := w.links.Load(n.Name())
		mute := unlinked || n.Fault() != nodetest.None || n.Name() == "pg1" && w.good != nil && w.cert.Load() != w.good
		if was := !w.since[n.Name()].IsZero(); mute && !was {
			w.since[n.Name()] = time.Now()
		} else if !mute && was {
			delete(w.since, n.Name())
		}
	}
}

// see checks what must hold at any moment. passing checks that HTTP and agents agree and that
// every refusal has a reason.
func (w *walk) see() {
	w.Helper()
	now := time.Now()
	for _, check := range []string{"primary", "replica"} {
		who, _ := w.passing(check)
		if check == "primary" && len(who) > 1 {
			w.Errorf("%q pass primary", who)
		}
		view := w.sup.Views()[0]
		for _, name := range who {
			began := view.Member(name).Entry.Began
			if age := now.Sub(began); age >= ttl {
				w.Errorf("%s passes %s on what is %s old", name, check, age)
			}
			if !w.slept.IsZero() && !began.After(w.slept) {
				w.Errorf("%s passes %s on what is from before the machine was suspended", name, check)
			}
			if mute := w.since[name]; !mute.IsZero() && now.Sub(mute) >= ttl {
				w.Errorf("%s passes %s, %s after its last answer", name, check, now.Sub(mute))
			}
		}
	}
	if w.Failed() {
		for _, did := range w.did {
			w.Log(did)
		}
		w.FailNow()
	}
}

// mend ends all faults and chooses a leader. All nodes must be in service within an interval
// after each one answered.
func (w *walk) mend() {
	w.Helper()
	w.links.Clear()
	if w.good != nil {
		w.cert.Store(w.good)
	}
	w.sim.RestoreDCS()
	w.sim.SetPause(false)
	leader := w.node().Name()
	for _, n := range w.sim.Nodes() {
		n.SetDelay(0)
		n.Thaw()
		n.Set(func(s *nodetest.State) { s.State, s.SQL = "running", true })
	}
	w.sim.Promote(leader)
	for _, n := range w.sim.Nodes() {
		if n.Name() != leader {
			w.sim.Revive(n.Name())
		}
	}
	w.note()
	w.did = append(w.did, fmt.Sprintf("%s all is mended, %s leads", time.Now().Format("04:05.000"), leader))
	mended := time.Now()
	heard := func() bool {
		for _, m := range w.sup.Views()[0].Members {
			if !m.Entry.Began.After(mended) || m.Entry.Failures > 0 {
				return false
			}
		}
		return true
	}
	for !heard() {
		if time.Since(mended) > backoff+moment {
			w.Fatalf("not all nodes were heard %s after all was mended", backoff)
		}
		w.see()
		time.Sleep(glance)
	}
	time.Sleep(interval + interval/10)
	w.see()
	primaries, _ := w.passing("primary")
	replicas, _ := w.passing("replica")
	if len(replicas) != 2 || !slices.Equal(primaries, []string{leader}) {
		for _, did := range w.did {
			w.Log(did)
		}
		w.Fatalf("primaries %q, replicas %q, want %s and the two others; why %q", primaries, replicas, leader, w.sup.Views()[0].Why)
	}
}

// neverTooMuch fails the test if a Patroni was asked too often.
func (w *walk) neverTooMuch() {
	w.Helper()
	for _, n := range w.sim.Nodes() {
		// A TLS client sends close_notify before it closes, for which it waits here: a pipe has no
		// buffer, unlike a socket.
		if n.MaxOpen() > 1 && w.good == nil {
			w.Errorf("%s: %d connections at once", n.Name(), n.MaxOpen())
		}
		if polls := w.busiest(n.Name()); polls > 11 {
			w.Errorf("%s: %d connections in a second", n.Name(), polls)
		}
	}
}
