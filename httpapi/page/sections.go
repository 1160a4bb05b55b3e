package page

import (
	"bytes"
	"hash/fnv"
	"html/template"
	"strings"

	"patroniglue/cluster"
)

// rendering is the output of the templates, and where in it the live sections are: the
// elements that the stream sends when they have changed. They may be nested.
type rendering struct {
	Base string // the path from the page to /, for links

	buf      bytes.Buffer
	sections []section
	open     []int                    // indices of the sections that have begun and not ended
	rendered map[string]template.HTML // see renderOnce
}

// renderOnce renders a template, or returns what it rendered for the same key before:
// most nodes answer alike, and templates are slow.
func (r *rendering) renderOnce(name, key string, data any) template.HTML {
	key = name + "\x00" + key
	if html, ok := r.rendered[key]; ok {
		return html
	}
	if r.rendered == nil {
		r.rendered = make(map[string]template.HTML)
	}
	r.rendered[key] = renderPart(name, data)
	return r.rendered[key]
}

// renderPart renders a small template.
func renderPart(name string, data any) template.HTML {
	var buf bytes.Buffer
	if err := templates.ExecuteTemplate(&buf, name, data); err != nil {
		panic(err) // the template is wrong, which tests find
	}
	return template.HTML(buf.String())
}

// signs are the levels as symbols and, for screen readers, as words.
var signs = [...]template.HTML{cluster.OK: renderPart("sign", "ok"), cluster.Warning: renderPart("sign", "warning"), cluster.Critical: renderPart("sign", "critical")}

// section is one live element, in the output.
type section struct {
	id       string
	from, to int
	parent   int // -1 = none
}

// Begin is called by a template before an element with this id, whose parts are joined.
func (r *rendering) Begin(parts ...string) string {
	parent := -1
	if n := len(r.open); n > 0 {
		parent = r.open[n-1]
	}
	r.open = append(r.open, len(r.sections))
	r.sections = append(r.sections, section{id: strings.Join(parts, ""), from: r.buf.Len(), parent: parent})
	return ""
}

// End is called by a template after that element.
func (r *rendering) End() string {
	last := len(r.open) - 1
	r.sections[r.open[last]].to = r.buf.Len()
	r.open = r.open[:last]
	return ""
}

// sums tell which sections have changed: by id, the checksum of a section's text,
// without the sections inside of it.
type sums map[string]uint64

func (r *rendering) sum() *sums {
	out := make(sums)
	text := r.buf.Bytes()
	for i, s := range r.sections { // outer sections come before inner ones
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

// changed returns the sections whose sums differ, by id; before is nil where nothing was
// shown before. A section that has changed itself is returned as a whole; else only
// those inside of it that have changed.
func (r *rendering) changed(now, before *sums) map[string]string {
	if before == nil {
		before = new(sums)
	}
	out := make(map[string]string)
	whole := make([]bool, len(r.sections)) // returned, by itself or inside of another one
	for i, s := range r.sections {         // outer sections come before inner ones
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
