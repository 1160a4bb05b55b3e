package page

import (
	"bytes"
	"hash/fnv"
	"html/template"
	"strings"

	"patroniglue/cluster"
)

// rendering remembers where in what the templates write the live sections are:
// the elements that the stream sends anew when they changed. They may be nested.
type rendering struct {
	Base string // from the page to /, for links

	buf      bytes.Buffer
	sections []section
	open     []int // the sections that have begun and not ended
	made     map[string]template.HTML
}

// once renders a template, or gives what it made of the same key before: most
// nodes answer alike, and a template takes its time.
func (r *rendering) once(name, key string, data any) template.HTML {
	key = name + "\x00" + key
	if html, ok := r.made[key]; ok {
		return html
	}
	if r.made == nil {
		r.made = make(map[string]template.HTML)
	}
	r.made[key] = rendered(name, data)
	return r.made[key]
}

// rendered is what a small template makes of data.
func rendered(name string, data any) template.HTML {
	var buf bytes.Buffer
	if err := templates.ExecuteTemplate(&buf, name, data); err != nil {
		panic(err) // a mistake in the template, which tests find
	}
	return template.HTML(buf.String())
}

// signs are the levels as a symbol and, for those who listen, a word.
var signs = [...]template.HTML{cluster.OK: rendered("sign", "ok"), cluster.Warning: rendered("sign", "warning"), cluster.Critical: rendered("sign", "critical")}

// section is one live element.
type section struct {
	id       string
	from, to int
	parent   int // -1 = none
}

// Begin is called by a template in front of an element with this id; parts are
// joined.
func (r *rendering) Begin(parts ...string) string {
	parent := -1
	if n := len(r.open); n > 0 {
		parent = r.open[n-1]
	}
	r.open = append(r.open, len(r.sections))
	r.sections = append(r.sections, section{id: strings.Join(parts, ""), from: r.buf.Len(), parent: parent})
	return ""
}

// End is called behind that element.
func (r *rendering) End() string {
	last := len(r.open) - 1
	r.sections[r.open[last]].to = r.buf.Len()
	r.open = r.open[:last]
	return ""
}

// sums tell sections from what they were before: of each, by id, the sum of its
// text outside of the sections in it.
type sums map[string]uint64

func (r *rendering) sum() *sums {
	out := make(sums)
	text := r.buf.Bytes()
	for i, s := range r.sections { // outer ones first
		h := fnv.New64a()
		at := s.from
		for j := i + 1; j < len(r.sections) && r.sections[j].from < s.to; j++ {
			if in := &r.sections[j]; in.parent == i {
				h.Write(text[at:in.from])
				at = in.to
			}
		}
		h.Write(text[at:s.to])
		out[s.id] = h.Sum64()
	}
	return &out
}

// changed gives the sections, whose sums are now, that differ from before, by id;
// nil = nothing was before. A section whose text differs outside of the sections
// in it is given as a whole, else only those in it that differ.
func (r *rendering) changed(now, before *sums) map[string]string {
	if before == nil {
		before = new(sums)
	}
	out := make(map[string]string)
	whole := make([]bool, len(r.sections)) // given, as part of this or as itself
	for i, s := range r.sections {         // outer ones first
		was, known := (*before)[s.id]
		switch {
		case s.parent >= 0 && whole[s.parent]:
			whole[i] = true
		case !known || was != (*now)[s.id]:
			whole[i] = true
			out[s.id] = string(bytes.TrimSpace(r.buf.Bytes()[s.from:s.to]))
		}
	}
	return out
}
