package page

import (
	"sync/atomic"
	"time"

	"patroniglue/cluster"
)

// Config is what pages are made of.
type Config struct {
	Supervisor *cluster.Supervisor
	OwnHealth  func(now time.Time) cluster.Health // of the supervisor itself
	AgentLine  AgentLine                          // what HAProxy's agent is told; nil = not shown
	Version    string
}

// AgentLine appends the line that answers an agent check, newline included.
// agentapi.AppendLine is one: the page shows what that says, letter by letter.
type AgentLine func([]byte, cluster.Answer) []byte

// Renderer renders the pages of one supervisor.
type Renderer struct {
	cfg      Config // read-only after New
	sup      *cluster.Supervisor
	build    string       // of the page
	pageSize atomic.Int64 // of the latest one, in bytes: about as long will be the next
	watched  watched
}

// New makes a Renderer.
func New(cfg Config) *Renderer {
	return &Renderer{cfg: cfg, sup: cfg.Supervisor, build: buildID(cfg.Version), watched: watched{pages: make(map[Query]*watchedPage)}}
}

// Render makes the page that q asks for. It fails for a cluster that there is not.
func (s *Renderer) Render(q Query, now time.Time) ([]byte, error) {
	p, err := s.render(q, now)
	if err != nil {
		return nil, err
	}
	return p.bytes(), nil
}

// NotFound makes the page that stands below /ui/ instead of a cluster that there is not, and lists those that there are.
func (s *Renderer) NotFound(problem error, now time.Time) ([]byte, error) {
	p := s.newPage(Query{Base: "../"}, now)
	p.Title, p.Problem, p.LevelName = "no such cluster", problem.Error(), cluster.Warning.String()
	for _, v := range s.sup.Views() {
		p.Names = append(p.Names, v.Cluster)
	}
	if err := p.execute("notfound"); err != nil {
		return nil, err
	}
	return p.bytes(), nil
}
