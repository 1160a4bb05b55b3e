package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
)

//go:embed ui
var ui embed.FS

var templates = template.Must(template.ParseFS(ui, "ui/page.html"))

// assets are the files that pages load, by name.
var assets = func() map[string]asset {
	all := make(map[string]asset)
	for name, kind := range map[string]string{
		"page.css": "text/css; charset=utf-8", "graph.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8",
		"ok.svg": "image/svg+xml", "warning.svg": "image/svg+xml", "critical.svg": "image/svg+xml",
	} {
		body, err := ui.ReadFile("ui/" + name)
		if err != nil {
			panic(err) // embedded above
		}
		all[name] = asset{kind, body}
	}
	return all
}()

type asset struct {
	contentType string
	body        []byte
}

// buildID makes an id that differs between builds whose pages differ.
func buildID(version string) string {
	h := sha256.New()
	h.Write([]byte(version))
	files, _ := ui.ReadDir("ui")
	for _, f := range files {
		body, _ := ui.ReadFile("ui/" + f.Name()) // embedded
		h.Write(body)
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

// Build returns the build in links to assets. It differs between builds whose pages
// differ.
func (r *Renderer) Build() string { return r.build }

// Asset returns a file that pages load.
func Asset(name string) (contentType string, body []byte, ok bool) {
	a, ok := assets[name]
	return a.contentType, a.body, ok
}
