package page

import (
	"hash/fnv"
	"strconv"
	"time"

	"patroniglue/cluster"
)

// page is what the templates are given, and what they made of it.
type page struct {
	rendering
	Title, Version, Build string
	ID                    string // of what is rendered: another build, cluster or set of nodes has another
	Live                  string
	Level                 cluster.Level
	LevelName             string
	Clock                 string
	Own                   cluster.Health // of the supervisor itself
	Cluster               *clusterPage   // this, or the overview
	Overview              *overviewPage
	Problem               string // why there is neither
	Names                 []string
}

func (s *Renderer) newPage(q Query, now time.Time) *page {
	return &page{
		rendering: rendering{Base: q.Base}, Live: q.Live,
		Version: s.cfg.Version, Build: s.build, Clock: now.UTC().Format("15:04:05"),
	}
}

// render makes the whole page. The stream cuts its sections out of the same
// bytes, so what is pushed cannot differ from what is loaded.
func (s *Renderer) render(q Query, now time.Time) (*page, error) {
	p := s.newPage(q, now)
	p.buf.Grow(int(s.pageSize.Load()))
	id := fnv.New64a()
	id.Write([]byte(s.build + "/" + q.Cluster))
	if q.Cluster == "" {
		p.Overview = s.overview(&p.rendering, q, now)
		p.Level, p.Title = p.Overview.Level, p.Overview.Title
	} else {
		v, err := s.sup.View(q.Cluster)
		if err != nil {
			return nil, err
		}
		p.Cluster = s.clusterPage(&p.rendering, v, now)
		p.Level, p.Title = p.Cluster.Level, p.Cluster.Title
		for _, m := range v.Members {
			id.Write([]byte("/" + m.Name))
		}
	}
	if p.Own = s.cfg.OwnHealth(now); p.Own.Level > p.Level {
		p.Level, p.Title = p.Own.Level, "patroniglue itself"
	}
	p.ID = strconv.FormatUint(id.Sum64(), 36)
	p.LevelName = p.Level.String()
	err := p.execute("page")
	s.pageSize.Store(int64(p.buf.Len()))
	return p, err
}

func (p *page) execute(name string) error { return templates.ExecuteTemplate(&p.buf, name, p) }

func (p *page) bytes() []byte { return p.buf.Bytes() }
