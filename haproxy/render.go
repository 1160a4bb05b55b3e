// Package haproxy makes a haproxy.cfg for the configured nodes, and judges one that
// somebody else has made.
package haproxy

import (
	"bytes"
	"cmp"
	_ "embed"
	"errors"
	"path/filepath"
	"text/template"
	"time"

	"patroniglue/internal/config"
)

//go:embed haproxy.cfg.tmpl
var configText string

var configTemplate = template.Must(template.New("haproxy.cfg").Funcs(template.FuncMap{"word": word}).Parse(configText))

// file is what the template shows. Options of servers begin with a blank each.
type file struct {
	Bind         string // "" = all addresses
	Socket, User string
	WriteInter   string // how often agents are asked
	ReadInter    string
	StatsPort    int
	Direct       bool
	Fallback     bool // checks.fallback is set
	Named        bool // an address is a name, not an IP address
	Unverified   bool // a check by https proves nothing
	Hold         int  // seconds; 0 = refuse at once
	Lua          string
	Proxies      []proxy
}

// InspectDelay, in seconds, is after what time HAProxy ends the Lua action: half a
// second after its last sleep, so that it can still decide.
func (f file) InspectDelay() int { return f.Hold + 1 }

// builder makes a file, and collects the errors that prevent it.
type builder struct {
	cfg  *config.Config
	o    Options
	file file
	errs []error
}

// Render makes a haproxy.cfg of the tested pattern for the nodes of cfg. Its error names
// everything that is missing or wrong, one a line.
func Render(cfg *config.Config, o Options) ([]byte, error) {
	clusters, err := chosenClusters(cfg, o.Cluster)
	if err != nil {
		return nil, err
	}
	b := &builder{cfg: cfg, o: o, file: newFile(cfg, o)}
	b.fail(checkPorts(cfg, o, len(clusters)), checkFlags(o), checkNodes(clusters, o.Dedicated))
	shared := options{agent: b.sharedAgent(), check: b.frontendCheck()}
	names := newNames(cfg)
	for i, c := range clusters {
		b.addProxies(i, c, names, shared)
	}
	if err := errors.Join(b.errs...); err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := configTemplate.Execute(&text, b.file); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// newFile is the file without its proxies.
func newFile(cfg *config.Config, o Options) file {
	return file{
		Bind: o.Bind, Socket: o.Socket, User: o.User, StatsPort: o.StatsPort, Direct: o.Direct,
		WriteInter: milliseconds(o.AgentInter), ReadInter: milliseconds(max(o.AgentInter, readInter)),
		Fallback: cfg.Checks.Fallback != "",
		Hold:     int(o.Hold / time.Second),
		Lua:      cmp.Or(o.Lua, filepath.Join(cmp.Or(o.Dir, "/etc/haproxy"), LuaName)),
	}
}

// fail collects errors, of which nil is none.
func (b *builder) fail(errs ...error) { b.errs = append(b.errs, errs...) }
