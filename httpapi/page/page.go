package page

import (
	"hash/fnv"
	"strconv"
	"time"

	"patroniglue/cluster"
)

// page is the data for the templates, and what they rendered.
type page struct {
	rendering
	Title, Version, Build string
	ID                    string // changes with the build, the cluster and the set of nodes
	Live                  string
	Level                 cluster.Level
	LevelName             string
	Clock                 string
	Own                   cluster.Health // of the supervisor itself
	Cluster               *clusterPage   // nil = the overview
	Overview              *overviewPage
	Problem               string // why there is neither of both
	Names                 []string
}

func (r *Renderer) newPage(q Query, now time.Time) *page {
	return &page{
		rendering: rendering{Base: q.Base}, Live: q.Live,
		Version: r.cfg.Version, Build: r.build, Clock: now.UTC().Format("15:04:05"),
	}
}

// render renders the whole page. The stream sends parts of the same bytes, so that it
// cannot differ from the page that is loaded.
func (r *Renderer) render(q Query, now time.Time) (*page, error) {
	p := r.newPage(q, now)
	p.buf.Grow(int(r.pageSize.Load()))
	id := fnv.New64a()
	id.Write([]byte(r.build + "/" + q.Cluster))
	if q.Cluster == "" {
		p.Overview = r.overview(&p.rendering, q, now)
		p.Level, p.Title = p.Overview.Level, p.Overview.Title
	} else {
		v, err := r.sup.View(q.Cluster)
		if err != nil {
			return nil, err
		}
		p.Cluster = r.clusterPage(&p.rendering, v, now)
		p.Level, p.Title = p.Cluster.Level, p.Cluster.Title
		for _, m := range v.Members {
			id.Write([]byte("/" + m.Name))
		}
	}
	if p.Own = r.cfg.OwnHealth(now); p.Own.Level > p.Level {
		p.Level, p.Title = p.Own.Level, "patroniglue itself"
	}
	p.ID = strconv.FormatUint(id.Sum64(), 36)
	p.LevelName = p.Level.String()
	err := p.execute("page")
	r.pageSize.Store(int64(p.buf.Len()))
	return p, err
}

func (p *page) execute(name string) error { return templates.ExecuteTemplate(&p.buf, name, p) }

func (p *page) bytes() []byte { return p.buf.Bytes() }
