package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/contrib/lab"
)

// moment is when something happened. All processes are on one machine: one clock.
type moment struct {
	what string
	at   time.Time // zero when it was not seen
}

// nodeLogs returns how long each node's log is, Patroni's with PostgreSQL's in it.
func (b *bench) nodeLogs() map[string]int64 {
	sizes := make(map[string]int64)
	for _, n := range b.lab.Nodes {
		if info, err := os.Stat(b.nodeLog(n.Name)); err == nil {
			sizes[n.Name] = info.Size()
		}
	}
	return sizes
}

func (b *bench) nodeLog(name string) string { return filepath.Join(b.lab.Dir, "log", name+".log") }

// stamp is Patroni's ("2026-01-02 15:04:05,678 INFO: ...") and PostgreSQL's ("2026-01-02 15:04:05.678 UTC [1] ...").
var stamp = regexp.MustCompile(`^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)[.,](\d{3}) (.*)`)

// parseLog returns the lines of a node's log that have a time. Both loggers use the machine's zone.
func parseLog(text string, zone *time.Location) []line {
	var lines []line
	for l := range strings.Lines(text) {
		if m := stamp.FindStringSubmatch(strings.TrimRight(l, "\n")); m != nil {
			if at, err := time.ParseInLocation("2006-01-02 15:04:05.000", m[1]+"."+m[2], zone); err == nil {
				lines = append(lines, line{at, m[3]})
			}
		}
	}
	return lines
}

// moments are those by which the gap can be taken apart, the one that others are compared with first. Nothing is asked for them, since
// asking Patroni and HAProxy a hundred times a second would slow down what is measured: all is read from logs.
func (b *bench) moments(sizes map[string]int64, p processes, old, next lab.Node, began time.Time, s sample) []moment {
	in := func(node lab.Node, words ...string) time.Time {
		text, err := os.ReadFile(b.nodeLog(node.Name))
		if err != nil || int64(len(text)) < sizes[node.Name] {
			return time.Time{}
		}
		for _, l := range parseLog(string(text[sizes[node.Name]:]), time.Local) {
			if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(l.text, w) }) {
				return l.at
			}
		}
		return time.Time{}
	}
	backend := lab.WriteBackend
	if b.reads {
		backend = lab.ReadBackend
	}
	start := moment{"PostgreSQL of the old primary is told to stop", in(old, "received fast shutdown request")}
	if b.event == loseNode {
		start = moment{"the old primary is killed", began}
	}
	moments := []moment{
		start,
		{"last good attempt of the floor", s.floor.from},
		{"last good attempt of the variant", s.variant.from},
	}
	if p.daemon != nil {
		moments = append(moments, moment{"patroniglue: old primary passes no more", p.daemon.first(began, `"node":"`+old.Name+`"`, `"change":"`)})
	}
	moments = append(moments,
		moment{"HAProxy: old primary out", p.haproxy.first(began, backend+"/"+old.Name+" ")},
		moment{"PostgreSQL of the old primary is down", in(old, "database system is shut down")},
		moment{"Patroni of the new primary has the lock", in(next, "promoted self to leader")},
		moment{"PostgreSQL is told to promote", in(next, "received promote request")},
		moment{"PostgreSQL takes writes", in(next, "archive recovery complete")},
		moment{"first good attempt of the floor", s.floor.to},
	)
	if p.daemon != nil {
		moments = append(moments, moment{"patroniglue: new primary passes", p.daemon.first(began, `"node":"`+next.Name+`"`, `"change":"role"`, `"after":"primary"`)})
	}
	return append(moments,
		moment{"HAProxy: new primary in", p.haproxy.first(began, backend+"/"+next.Name+" ")},
		moment{"first good attempt of the variant", s.variant.to})
}

// whereabouts is the table of moments: one row each, one column per variant.
func whereabouts(results []result) [][]string {
	head := []string{"moment"}
	var whats []string
	cells := make(map[string]map[int]string)
	for _, r := range results {
		if len(r.samples) == 0 {
			continue
		}
		column := len(head)
		head = append(head, r.variant.name)
		for i, m := range r.samples[0].moments {
			var after []time.Duration
			for _, s := range r.samples {
				if start := s.moments[0].at; !start.IsZero() && !s.moments[i].at.IsZero() {
					after = append(after, s.moments[i].at.Sub(start))
				}
			}
			if !slices.Contains(whats, m.what) {
				whats = append(whats, m.what)
				cells[m.what] = make(map[int]string)
			}
			if len(after) > 0 {
				cells[m.what][column] = strconv.FormatInt(median(after).Milliseconds(), 10)
			}
		}
	}
	rows := [][]string{head}
	for _, what := range whats {
		row := []string{what}
		for column := 1; column < len(head); column++ {
			row = append(row, cells[what][column])
		}
		if strings.Join(row[1:], "") != "" {
			rows = append(rows, row)
		}
	}
	return rows
}

// keepLogs copies what a switchover left behind.
func (b *bench) keepLogs(v variant, p processes, sizes map[string]int64, clients ...*client) error {
	dir := filepath.Join(b.keep, fmt.Sprintf("%02d-%s", b.clients, regexp.MustCompile(`[^a-z0-9]+`).ReplaceAllString(v.name, "-")))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := make(map[string]string)
	for name, size := range sizes {
		text, err := os.ReadFile(b.nodeLog(name))
		if err != nil {
			return err
		}
		files[name+".log"] = string(text[min(size, int64(len(text))):])
	}
	for name, p := range map[string]*process{"haproxy.log": p.haproxy, "patroniglue.log": p.daemon} {
		if p == nil {
			continue
		}
		for _, l := range p.log() {
			files[name] += l.at.Format("15:04:05.000 ") + l.text + "\n"
		}
	}
	for _, c := range clients {
		name, _, _ := strings.Cut(c.name, " ")
		for _, a := range c.attempts {
			files[name+".log"] += fmt.Sprintf("%s %s %5d %s", a.began.Format("15:04:05.000"), a.ended.Format("15:04:05.000"), a.ended.Sub(a.began).Milliseconds(), outcomeNames[a.outcome])
			if a.err != nil {
				files[name+".log"] += ": " + strings.ReplaceAll(a.err.Error(), "\n", " | ")
			}
			files[name+".log"] += "\n"
		}
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
