package haproxy

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"patroniglue/internal/config"
	"patroniglue/node"
)

// lintWarning is one mistake, at the line that makes it, for all servers that
// have it from there.
type Warning struct {
	Line      int
	text, why string
	servers   []string
}

func (w Warning) String() string {
	text := fmt.Sprintf("%s (%s)", w.text, w.why)
	if len(w.servers) > 0 {
		text = strings.Join(w.servers, ", ") + ": " + text
	}
	return text
}

// lintHAProxy says how many sections it judged, beside what is wrong in them.
func Lint(text string, cfg *config.Config) (warnings []Warning, judged int) {
	l := readHAProxy(text)
	l.names = make(map[string]bool)
	if cfg != nil {
		for _, n := range cfg.Nodes {
			l.names[n.Name] = true
		}
	}
	for _, p := range l.proxies {
		if p.database() {
			judged++
			l.judge(p)
		}
	}
	if judged > 0 && !l.hardStop {
		l.warn(l.global, "no hard-stop-after in global", "after a reload the old process checks nothing: its sessions on a primary demoted later stay for ever")
	}
	slices.SortStableFunc(l.warnings, func(a, b Warning) int { return cmp.Compare(a.Line, b.Line) })
	return l.warnings, judged
}

// lint is a haproxy.cfg as far as the rules need it.
type lint struct {
	global   int // line of the first global section, or 1
	hardStop bool
	proxies  []*lintProxy
	guarded  map[string]bool // proxies that some rule asks for nbsrv
	names    map[string]bool // the configured nodes; empty = not known
	warnings []Warning
}

// lintProxy is a listen, backend or defaults section, with all that it inherits.
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

// statements that rules look at, longest first.
var lintStatements = []string{
	"option httpchk", "http-check expect", "http-check send", "timeout check", "balance", "hash-type", "mode", "disabled",
}

// readHAProxy never fails: what it cannot read is not its business.
func readHAProxy(text string) *lint {
	l := &lint{global: 1, guarded: make(map[string]bool)}
	var section string
	var current *lintProxy // nil in sections that are no proxy
	defaults := newLintProxy(nil)
	named := make(map[string]*lintProxy) // defaults sections

	for number, words := range l.lines(text) {
		key := words[0].text
		if slices.Contains(lintSections, key) {
			name, parent := "", defaults
			if len(words) > 1 && words[1].text != "from" {
				name = words[1].text
			}
			from := ""
			if i := slices.IndexFunc(words, func(w lintWord) bool { return w.text == "from" }); i > 0 && i+1 < len(words) {
				from = words[i+1].text
				parent = named[from]
			}
			section, current = key, nil
			switch key {
			case "global":
				if l.global == 1 {
					l.global = number
				}
			case "defaults":
				if from == "" {
					parent = nil // another defaults section starts anew
				}
				current = newLintProxy(parent)
				defaults = current
				if name != "" {
					named[name] = current
				}
			case "listen", "backend", "frontend":
				current = newLintProxy(parent)
				current.name, current.line = name, number
				l.proxies = append(l.proxies, current)
			}
			continue
		}
		if section == "global" && key == "hard-stop-after" {
			l.hardStop = true
		}
		if current != nil {
			current.read(number, words)
			l.guard(current.name, words)
		}
	}
	return l
}

func newLintProxy(parent *lintProxy) *lintProxy {
	p := &lintProxy{settings: make(map[string]lintSetting), server: make(map[string]lintSetting)}
	if parent != nil {
		maps.Copy(p.settings, parent.settings)
		maps.Copy(p.server, parent.server)
	}
	return p
}

func (l *lint) guard(proxy string, words []lintWord) {
	for _, w := range words {
		for _, m := range nbsrv.FindAllStringSubmatch(w.text, -1) {
			l.guarded[cmp.Or(m[1], proxy)] = true
		}
	}
}

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
		// A section with a rule of its own inherits none.
		if strings.HasPrefix(key, "http-check") {
			for _, rule := range []string{"http-check expect", "http-check send"} {
				if p.settings[rule].line < p.line {
					delete(p.settings, rule)
				}
			}
		}
		s := lintSetting{number, words[n:]}
		if key == "http-check expect" { // all of them have to hold
			s.args = slices.Concat(p.settings[key].args, words[:n], words[n:])
		}
		p.settings[key] = s
		return
	}
}

func joinWords(words []lintWord) string {
	texts := make([]string, len(words))
	for i, w := range words {
		texts[i] = w.text
	}
	return strings.Join(texts, " ")
}

// lintArgument are the server options that take an argument, which is no option
// however it reads.
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

// lintWord is an argument after quotes and escapes.
type lintWord struct {
	text   string
	single bool // it was in single quotes
}

// lines gives the number and the words of every line that has words. It
// joins lines at a backslash, as people mean it; HAProxy does not.
func (l *lint) lines(text string) iter.Seq2[int, []lintWord] {
	return func(yield func(int, []lintWord) bool) {
		lines := strings.Split(text, "\n")
		for i := 0; i < len(lines); i++ {
			number, line := i+1, strings.TrimSuffix(lines[i], "\r")
			words, open := lintWords(line)
			for open && i+1 < len(lines) {
				l.warn(i+1, "a backslash at the end of the line", "HAProxy does not join lines, it refuses the file")
				i++
				line = strings.TrimSuffix(line, `\`) + strings.TrimSuffix(lines[i], "\r")
				words, open = lintWords(line)
			}
			if len(words) == 0 || strings.HasPrefix(words[0].text, ".") { // .if and its like: both branches count
				continue
			}
			if !yield(number, words) {
				return
			}
		}
	}
}

// lintWords splits a line as HAProxy does; open says that it ends in a backslash
// that escapes nothing.
func lintWords(line string) (words []lintWord, open bool) {
	var b strings.Builder
	var quote byte
	inWord, single := false, false
	flush := func() {
		if inWord {
			words = append(words, lintWord{b.String(), single})
		}
		b.Reset()
		inWord, single = false, false
	}
scan:
	for i := 0; i < len(line); i++ {
		c := line[i]
		switch {
		case c == quote:
			quote = 0
		case quote == 0 && (c == '\'' || c == '"'):
			quote, inWord, single = c, true, single || c == '\''
		case quote == 0 && c == '#':
			break scan
		case quote == 0 && (c == ' ' || c == '\t'):
			flush()
		case c == '\\' && quote != '\'':
			inWord = true
			if i+1 == len(line) {
				open = true
				break scan
			}
			i++
			switch next := line[i]; next {
			case 'n':
				b.WriteByte('\n')
			case 'r':
				b.WriteByte('\r')
			case 't':
				b.WriteByte('\t')
			case ' ', '#', '\\', '"', '\'', '$':
				b.WriteByte(next)
			default:
				b.WriteByte(c)
				b.WriteByte(next)
			}
		default:
			inWord = true
			b.WriteByte(c)
		}
	}
	flush()
	return words, open
}

// warn tells of a mistake once for each line, for all servers that share it.
func (l *lint) warn(line int, text, why string, servers ...string) {
	same := func(w Warning) bool { return w.Line == line && w.text == text }
	i := slices.IndexFunc(l.warnings, same)
	if i < 0 {
		i = len(l.warnings)
		l.warnings = append(l.warnings, Warning{Line: line, text: text, why: why})
	}
	l.warnings[i].servers = append(l.warnings[i].servers, servers...)
}

// database says that a section has servers that Patroni's state decides about.
func (p *lintProxy) database() bool {
	if _, off := p.settings["disabled"]; off || p.name == "" || p.settings["mode"].value() == "http" {
		return false
	}
	_, httpchk := p.settings["option httpchk"]
	return slices.ContainsFunc(p.servers, func(s lintServer) bool { return httpchk && s.has("check") || s.has("agent-check") })
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

// haproxyTime reads a time as HAProxy does, in milliseconds where no unit is
// given (configuration.txt 2.6, 2.5 "Time format"); 0 for what is none.
func parseTime(s string) time.Duration {
	if _, err := strconv.ParseUint(s, 10, 31); err == nil {
		s += "ms"
	}
	if days, ok := strings.CutSuffix(s, "d"); ok {
		n, _ := strconv.ParseUint(days, 10, 15) // 0 for what is none
		return time.Duration(n) * 24 * time.Hour
	}
	d, _ := time.ParseDuration(s) // likewise
	return d
}

func (s lintServer) has(option string) bool {
	_, ok := s.options[option]
	return ok
}

// judge applies the rules to one section.
func (l *lint) judge(p *lintProxy) {
	httpchk, hasHTTP := p.settings["option httpchk"]
	writes := p.writes()
	if hasHTTP && !p.expects200() {
		l.warn(httpchk.line, "option httpchk without http-check expect status 200", "a redirect passes as well: 2xx and 3xx do")
	}
	if s, ok := p.settings["timeout check"]; ok && parseTime(s.value()) > p.shortestInter() {
		l.warn(s.line, "timeout check over inter", "it lengthens a check: without it one that hangs ends after its inter")
	}
	if writes && len(p.servers) > 1 && !l.guarded[p.name] {
		l.warn(p.line, fmt.Sprintf("%s: no tcp-request connection reject if { nbsrv gt 1 }", p.name), "with two primaries at once both are written to, by half of the clients each")
	}
	agents := slices.ContainsFunc(p.servers, func(s lintServer) bool { return s.has("agent-check") })
	if s := p.settings["balance"]; agents && (s.value() == "static-rr" || s.value() == "source" && !strings.Contains(joinWords(p.settings["hash-type"].args), "consistent")) {
		l.warn(s.line, "balance "+s.value()+" with agent-check", "it takes no weight from an agent but 0% and 100%")
	}
	for _, s := range p.servers {
		l.judgeServer(s, hasHTTP, writes)
	}
}

func (l *lint) judgeServer(s lintServer, httpchk, writes bool) {
	agent, hasAgent := s.options["agent-check"]
	check, hasCheck := s.options["check"]
	if !hasAgent && !(httpchk && hasCheck) {
		return
	}
	if !s.has("on-marked-down") {
		at := check.line
		if hasAgent {
			at = agent.line
		}
		l.warn(at, "no on-marked-down shutdown-sessions", "sessions on a demoted primary stay open for ever", s.name)
	}
	if s.template && writes {
		l.warn(s.line, "server-template for writes", "after a change in DNS an address is in another slot, and finds the last node's \"ready\" there", s.name)
	}
	if !s.template && len(l.names) > 0 && !l.names[s.name] {
		text := "no node of the configuration has this name"
		if near, ok := config.Nearest(s.name, slices.Sorted(maps.Keys(l.names))); ok {
			text += fmt.Sprintf(", did you mean %q?", near)
		}
		l.warn(s.line, text, "patroniglue, asked by this name, answers 404: the server never gets into service", s.name)
	}
	if !hasAgent {
		return
	}
	if !hasCheck && !s.has("track") {
		l.warn(agent.line, "agent-check without check", "an agent that dies leaves its last word for ever: a dead primary stays in service", s.name)
	}
	if !s.has("agent-port") {
		l.warn(agent.line, "agent-check without agent-port", "HAProxy refuses the file", s.name)
	}
	if !s.has("disabled") {
		l.warn(agent.line, "agent-check without disabled", "servers start UP: until the first answers, up to 1.4s, connections reach nodes of the wrong role; the agent's \"ready\" lifts disabled", s.name)
	}
	weight, hasWeight := s.options["weight"]
	if n, err := strconv.Atoi(weight.value()); !hasWeight {
		l.warn(agent.line, "agent-check without weight 100", "percentages round down: 75% of the default weight 1 is 0, no traffic", s.name)
	} else if err == nil && n > 0 && n < 100 {
		l.warn(weight.line, "agent-check with weight "+weight.value(), fmt.Sprintf("percentages round down: 1%% of weight %d is 0, no traffic; give weight 100", n), s.name)
	}
	l.judgeSend(s)
}

func (l *lint) judgeSend(s lintServer) {
	send, ok := s.options["agent-send"]
	if !ok {
		return
	}
	text := send.value()
	switch {
	case strings.HasSuffix(text, "\n"):
	case strings.HasSuffix(text, `\n`) && send.args[0].single:
		l.warn(send.line, `agent-send in single quotes`, `it sends a backslash and an n; in double quotes it is a newline`, s.name)
	case strings.HasSuffix(text, `\n`):
		l.warn(send.line, `agent-send with an escaped backslash`, `it sends a backslash and an n; "\n" in double quotes is a newline`, s.name)
	default:
		l.warn(send.line, "agent-send without a newline at its end", "the agent waits for more, and with a short agent-inter its answer is too late: the state freezes", s.name)
	}
	if asked, _, ok := agentQuestion(text); ok && l.names[s.name] && asked != s.name {
		l.warn(send.line, fmt.Sprintf("agent-send asks about node %q", asked), "this server would follow another node's role", s.name)
	}
}

// agentQuestion takes apart [cluster/]node/check?parameters.
func agentQuestion(send string) (name string, check node.Check, ok bool) {
	send = strings.TrimSuffix(strings.TrimRight(send, "\r\n"), `\n`)
	question, query, _ := strings.Cut(send, "?")
	parts := strings.Split(question, "/")
	if len(parts) < 2 || len(parts) > 3 {
		return "", node.Check{}, false
	}
	check, err := node.ParseCheck(parts[len(parts)-1], query)
	return parts[len(parts)-2], check, err == nil
}

// writes says whether a section leads to the primary: by what its check asks,
// else by what its agents are asked.
func (p *lintProxy) writes() bool {
	if s, ok := p.settings["option httpchk"]; ok {
		uri := "/" // which Patroni answers as /primary
		if len(s.args) == 1 {
			uri = s.args[0].text
		} else if len(s.args) > 1 {
			uri = s.args[1].text
		}
		args := p.settings["http-check send"].args
		for i, w := range args {
			if (w.text == "uri" || w.text == "uri-lf") && i+1 < len(args) {
				uri = args[i+1].text
			}
		}
		uri, _, _ = strings.Cut(uri, "?")
		check, err := node.ParseCheck(path.Base(uri), "")
		return uri == "/" || err == nil && check.Writes()
	}
	return slices.ContainsFunc(p.servers, func(s lintServer) bool {
		_, check, ok := agentQuestion(s.options["agent-send"].value())
		return ok && check.Writes()
	})
}

func (p *lintProxy) expects200() bool {
	args := joinWords(p.settings["http-check expect"].args) + " "
	return strings.Contains(args, " status 200 ") && !strings.Contains(args, " ! status 200 ")
}
