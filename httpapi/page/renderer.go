package page

import (
	"sync/atomic"
	"time"

	"patroniglue/cluster"
)

// Config is what pages are made from.
type Config struct {
	Supervisor *cluster.Supervisor
	OwnHealth  func(now time.Time) cluster.Health // the health of the supervisor itself
	AgentLine  AgentLine                          // the answers to HAProxy's agent checks; nil = not shown
	Version    string
}

// AgentLine appends the line that answers an agent check, newline included.
// agentapi.AppendLine is one: the page shows its lines unchanged.
type AgentLine func([]byte, cluster.Answer) []byte

// Renderer renders the pages of one supervisor.
type Renderer struct {
	cfg      Config // read-only after New
	sup      *cluster.Supervisor
	build    string       // see Build
	pageSize atomic.Int64 // of the latest page, in bytes: the next one will need about as many
	live     livePages
}

// New makes a Renderer.
func New(cfg Config) *Renderer {
	return &Renderer{cfg: cfg, sup: cfg.Supervisor, build: buildID(cfg.Version), live: livePages{pages: make(map[Query]*livePage)}}
}

// Render makes the requested page. It fails for an unknown cluster.
func (r *Renderer) Render(q Query, now time.Time) ([]byte, error) {
	p, err := r.render(q, now)
	if err != nil {
		return nil, err
	}
	return p.bytes(), nil
}

// NotFound makes the page for an unknown cluster, below /ui/. It lists the known ones.
func (r *Renderer) NotFound(problem error, now time.Time) ([]byte, error) {
	p := r.newPage(Query{Base: "../"}, now)
	p.Title, p.Problem, p.LevelName = "no such cluster", problem.Error(), cluster.Warning.String()
	for _, v := range r.sup.Views() {
		p.Names = append(p.Names, v.Cluster)
	}
	if err := p.execute("notfound"); err != nil {
		return nil, err
	}
	return p.bytes(), nil
}
