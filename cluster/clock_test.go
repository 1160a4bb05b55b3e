package cluster

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"
	"unsafe"

	"patroniglue/cluster/clustertest"

	"github.com/google/go-cmp/cmp"
)

// stepped is the same moment on a machine whose wall clock was stepped: Go keeps
// seconds since 1885 from bit 30 of the first word while it also has a monotonic
// reading, which the step does not change (time.go, Time).
func stepped(t testing.TB, at time.Time, by time.Duration) time.Time {
	t.Helper()
	was := at.Unix()
	*(*uint64)(unsafe.Pointer(&at)) += uint64(by/time.Second) << 30
	if got := at.Unix() - was; got != int64(by/time.Second) {
		t.Fatalf("the wall clock was stepped by %d s, want %s", got, by)
	}
	return at
}

// busy is a cluster with something of everything that is kept. Not in a bubble:
// its times have no monotonic reading.
func busy(t *testing.T) *world {
	s := new(sleeper)
	cfg := config(clustertest.New(t, "pg1", leads(1)), clustertest.New(t, "pg2", follows(1)), clustertest.New(t, "pg3", follows(1).WithReplayed(1<<30-200*mb)))
	cfg.Rules.MaxLag, cfg.Rules.LagHold, cfg.Suspended = 100*mb, 20*time.Millisecond, s.suspended
	for i := range cfg.Clusters[0].Nodes {
		n := &cfg.Clusters[0].Nodes[i]
		n.Interval, n.PrimaryInterval, n.FastInterval = 20*time.Millisecond, 10*time.Millisecond, 5*time.Millisecond
	}
	w := begin(t, cfg)
	time.Sleep(200 * time.Millisecond)
	s.suspend(time.Hour)
	time.Sleep(200 * time.Millisecond)
	w.fakes["pg2"].Set(leads(1)) // two claim
	time.Sleep(200 * time.Millisecond)
	w.fakes["pg2"].Set(follows(1))
	w.fakes["pg3"].Set(refuses)
	time.Sleep(200 * time.Millisecond)
	w.leave("pg1", time.Minute)
	return w
}

// Whatever the wall clock says, the same verdicts are given at the same moment;
// and every moment that is kept has its monotonic reading, without which times
// are compared by the wall clock (package time, "Monotonic Clocks").
func TestWallClockThatSteps(t *testing.T) {
	t.Parallel()
	w := busy(t)
	now, v := time.Now(), w.view()
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		then := stepped(t, now, by)
		if d := cmp.Diff(v.Health(now), v.Health(then)); d != "" {
			t.Errorf("a step by %s changes the health:\n%s", by, d)
		}
		for _, m := range v.Members {
			if m.Entry.Fresh(now) != m.Entry.Fresh(then) || m.Entry.Age(now) != m.Entry.Age(then) || m.leaves(now) != m.leaves(then) {
				t.Errorf("a step by %s changes what is known of %s", by, m.Name)
			}
			for q := range plainChecks {
				if before, after := m.Verdict(&plainChecks[q], now), m.Verdict(&plainChecks[q], then); before != after {
					t.Errorf("a step by %s makes of %s, question %d, %+v, want %+v", by, m.Name, q, after, before)
				}
			}
		}
	}

	g := w.sup.watched.Load().rosters[0].group
	g.mu.Lock()
	defer g.mu.Unlock()
	set := make(map[string]bool)
	times(reflect.ValueOf(g), "group", make(map[unsafe.Pointer]bool), func(path string, at time.Time) {
		set[path] = !at.IsZero()
		// Clock is the node's own, and compared with what that node itself says.
		if !at.IsZero() && !strings.HasSuffix(path, ".Clock") && !strings.Contains(at.String(), " m=") {
			t.Errorf("%s is %s: no monotonic reading", path, at)
		}
	})
	for _, want := range []string{"group.unsettled", "group.roster.nodes[0].began", "group.roster.nodes[0].entry.Began", "group.roster.nodes[0].leaving.until",
		"group.roster.nodes[0].promise.until", "group.suspension.ended", "group.roster.view.Members[2].Entry.Began"} {
		if !set[want] {
			t.Errorf("%s was not looked at", want)
		}
	}
}

var timeType = reflect.TypeFor[time.Time]()

// times finds every time in v, through unexported fields as well.
func times(v reflect.Value, path string, seen map[unsafe.Pointer]bool, found func(string, time.Time)) {
	if v.Type() == timeType {
		at := reflect.New(timeType).Elem()
		if v.CanAddr() {
			at = reflect.NewAt(timeType, v.Addr().UnsafePointer()).Elem()
		}
		found(path, at.Interface().(time.Time))
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		if p := v.UnsafePointer(); p != nil && !seen[p] {
			seen[p] = true
			times(v.Elem(), path, seen, found)
		}
	case reflect.Struct:
		if strings.HasPrefix(v.Type().String(), "atomic.Pointer[") {
			// Its one pointer is the last field; Load's type is what it points to.
			load, _ := reflect.PointerTo(v.Type()).MethodByName("Load")
			times(reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).MethodByName(load.Name).Call(nil)[0], path, seen, found)
			return
		}
		for i := range v.NumField() {
			times(v.Field(i), path+"."+v.Type().Field(i).Name, seen, found)
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			times(v.Index(i), fmt.Sprintf("%s[%d]", path, i), seen, found)
		}
	}
}
