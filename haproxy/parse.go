package haproxy

import (
	"cmp"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// lint is what the rules need of a haproxy.cfg, and what they find.
type lint struct {
	global   int // line of the first global section, or 1
	hardStop bool
	proxies  []*lintProxy
	guarded  map[string]bool // proxies whose nbsrv some statement asks for
	names    map[string]bool // the configured nodes; empty = not known
	warnings []Warning
}

// lintProxy is a listen, frontend, backend or defaults section, with all that it inherits.
type lintProxy struct {
	name     string
	line     int
	settings map[string]lintSetting // by statement, such as "option httpchk"
	server   map[string]lintSetting // what default-server says
	servers  []lintServer
}

// lintSetting is a statement's or an option's arguments and where they stand.
type lintSetting struct {
	line int
	args []lintWord
}

func (s lintSetting) value() string {
	if len(s.args) == 0 {
		return ""
	}
	return s.args[0].text
}

type lintServer struct {
	name     string
	line     int
	template bool
	options  map[string]lintSetting
}

// lintStatements are those that the rules judge.
var lintStatements = []string{
	"option httpchk", "http-check expect", "http-check send", "timeout check", "balance", "hash-type", "mode", "disabled",
}

var (
	lintSections = []string{"global", "defaults", "listen", "frontend", "backend", "userlist", "peers", "mailers", "namespace_list",
		"resolvers", "cache", "http-errors", "ring", "log-forward", "log-profile", "program", "fcgi-app", "crt-store", "traces", "acme"}
	nbsrv = regexp.MustCompile(`\bnbsrv(?:\(([^),]+))?`)
)

// readConfig never fails: it skips what no rule needs, and what it cannot read.
func readConfig(text string) *lint {
	l := &lint{global: 1, guarded: make(map[string]bool)}
	sections := lintSectionReader{lint: l, defaults: newLintProxy(nil), named: make(map[string]*lintProxy)}
	for number, words := range l.lines(text) {
		if slices.Contains(lintSections, words[0].text) {
			sections.begin(number, words)
			continue
		}
		if sections.keyword == "global" && words[0].text == "hard-stop-after" {
			l.hardStop = true
		}
		if p := sections.proxy; p != nil {
			p.read(number, words)
			l.guard(p.name, words)
		}
	}
	return l
}

// lintSectionReader is the section that a line belongs to, and those that it may inherit
// from.
type lintSectionReader struct {
	lint     *lint
	keyword  string
	proxy    *lintProxy            // nil in sections that are no proxy
	defaults *lintProxy            // the last one
	named    map[string]*lintProxy // those with a name
}

// begin reads the first line of a section: its keyword, a name, and after "from" the section that it inherits from.
func (r *lintSectionReader) begin(number int, words []lintWord) {
	name, from, parent := "", "", r.defaults
	if len(words) > 1 && words[1].text != "from" {
		name = words[1].text
	}
	if i := slices.IndexFunc(words, func(w lintWord) bool { return w.text == "from" }); i > 0 && i+1 < len(words) {
		from = words[i+1].text
		parent = r.named[from]
	}
	r.keyword, r.proxy = words[0].text, nil
	switch r.keyword {
	case "global":
		if r.lint.global == 1 {
			r.lint.global = number
		}
	case "defaults":
		if from == "" {
			parent = nil // it inherits nothing from the one before
		}
		r.proxy = newLintProxy(parent)
		r.defaults = r.proxy
		if name != "" {
			r.named[name] = r.proxy
		}
	case "listen", "backend", "frontend":
		r.proxy = newLintProxy(parent)
		r.proxy.name, r.proxy.line = name, number
		r.lint.proxies = append(r.lint.proxies, r.proxy)
	}
}

// newLintProxy makes a section that inherits from parent, unless that is nil.
func newLintProxy(parent *lintProxy) *lintProxy {
	p := &lintProxy{settings: make(map[string]lintSetting), server: make(map[string]lintSetting)}
	if parent != nil {
		maps.Copy(p.settings, parent.settings)
		maps.Copy(p.server, parent.server)
	}
	return p
}

// guard finds the proxies whose nbsrv a statement asks for.
func (l *lint) guard(proxy string, words []lintWord) {
	for _, w := range words {
		for _, m := range nbsrv.FindAllStringSubmatch(w.text, -1) {
			l.guarded[cmp.Or(m[1], proxy)] = true
		}
	}
}

// read takes one line of a section.
func (p *lintProxy) read(number int, words []lintWord) {
	switch words[0].text {
	case "default-server":
		lintOptions(p.server, number, words[1:])
		return
	case "server", "server-template":
		s := lintServer{line: number, template: words[0].text == "server-template", options: maps.Clone(p.server)}
		skip := 3 // server NAME ADDRESS
		if s.template {
			skip = 4 // server-template PREFIX NUMBER ADDRESS
		}
		if len(words) < skip {
			return
		}
		s.name = words[1].text
		lintOptions(s.options, number, words[skip:])
		p.servers = append(p.servers, s)
		return
	case "no":
		if len(words) > 2 {
			delete(p.settings, words[1].text+" "+words[2].text)
		}
		return
	}
	for _, key := range lintStatements {
		n := strings.Count(key, " ") + 1
		if len(words) < n || joinWords(words[:n]) != key {
			continue
		}
		// A section with a rule of its own inherits no rules.
		if strings.HasPrefix(key, "http-check") {
			for _, rule := range []string{"http-check expect", "http-check send"} {
				if p.settings[rule].line < p.line {
					delete(p.settings, rule)
				}
			}
		}
		s := lintSetting{number, words[n:]}
		if key == "http-check expect" { // all expectations have to hold
			s.args = slices.Concat(p.settings[key].args, words[:n], words[n:])
		}
		p.settings[key] = s
		return
	}
}

// lintArgument has the server options that take an argument, which is no option whatever
// it is.
var lintArgument = func() map[string]bool {
	m := make(map[string]bool)
	for key := range strings.FieldsSeq(`addr agent-addr agent-inter agent-port agent-send alpn ca-file check-alpn check-proto check-sni
		ciphers ciphersuites client-sigalgs cookie crl-file crt curves downinter error-limit fall fastinter guid hash-key id idle-ping
		init-addr init-state inter log-bufsize log-proto max-reuse maxconn maxqueue minconn namespace npn observe on-error
		on-marked-down on-marked-up pool-low-conn pool-max-conn pool-purge-delay port proto proxy-v2-options redir resolve-net
		resolve-opts resolve-prefer resolvers rise shard sigalgs slowstart sni socks4 source ssl-max-ver ssl-min-ver tcp-ut track
		verify verifyhost weight ws`) {
		m[key] = true
	}
	return m
}()

// lintOptions reads the options of a server line.
func lintOptions(into map[string]lintSetting, number int, words []lintWord) {
	for i := 0; i < len(words); i++ {
		key := words[i].text
		s := lintSetting{line: number}
		if lintArgument[key] && i+1 < len(words) {
			i++
			s.args = words[i : i+1]
		}
		positive, negative := strings.CutPrefix(key, "no-")
		switch {
		case key == "enabled":
			delete(into, "disabled")
		case negative:
			delete(into, positive)
		default:
			into[key] = s
		}
	}
}

// shortestInter is the smallest interval of the section's checks; HAProxy's
// default is 2 s (configuration.txt 2.6, "inter").
func (p *lintProxy) shortestInter() time.Duration {
	shortest := 2 * time.Second
	for _, s := range p.servers {
		if inter := parseTime(s.options["inter"].value()); inter > 0 {
			shortest = min(shortest, inter)
		}
	}
	return shortest
}

// parseTime reads a time as HAProxy does, in milliseconds where no unit is given
// (configuration.txt 2.6, 2.5 "Time format"). It returns 0 for anything else.
func parseTime(s string) time.Duration {
	if _, err := strconv.ParseUint(s, 10, 31); err == nil {
		s += "ms"
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, _ := strconv.ParseUint(days, 10, 15) // 0 for anything else
		return time.Duration(n) * 24 * time.Hour
	}
	d, _ := time.ParseDuration(s) // likewise
	return d
}

func (s lintServer) has(option string) bool {
	_, ok := s.options[option]
	return ok
}
