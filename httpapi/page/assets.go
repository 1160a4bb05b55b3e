package page

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
)

// The operator's page: server-rendered, whole without JavaScript, live with it
// (live.go). Its marks do not change between versions, for tests and for who
// scripts it:
//
//	<html data-level data-page data-live>  the worst level; what was rendered, by which build; "yes" or "no" once the script runs
//	#banner[data-cluster][data-level]      one cluster's verdict; its reasons are li[data-code]
//	tbody[data-node][data-level]           one node, in the table #nodes; [data-leader] on the one primary
//	td[data-check][data-outcome]           what a check answers, of primary and replica
//	#timeline, #changes                    who was primary when; what changed, latest first
//	tr[data-cluster][data-level]           one cluster of the overview
//	#own                                   what is wrong with the supervisor itself
//	#live                                  the bar that says that the page is old

//go:embed ui
var ui embed.FS

var templates = template.Must(template.ParseFS(ui, "ui/page.html"))

// assets are what the page loads, by name.
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

// buildID differs between builds whose pages differ.
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

// Build names the build in links to assets: it differs between builds whose pages differ.
func (s *Renderer) Build() string { return s.build }

// Asset gives a file that pages load, by its name.
func Asset(name string) (contentType string, body []byte, ok bool) {
	a, ok := assets[name]
	return a.contentType, a.body, ok
}
