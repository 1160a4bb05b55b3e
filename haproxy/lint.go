package haproxy

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"patroniglue/internal/config"
	"patroniglue/node"
)

// Warning is one mistake, at the line that makes it, for all servers that inherit it from
// there.
type Warning struct {
	Line      int
	text, why string
	servers   []string
}

// String is the warning without its line.
func (w Warning) String() string {
	text := fmt.Sprintf("%s (%s)", w.text, w.why)
	if len(w.servers) > 0 {
		text = strings.Join(w.servers, ", ") + ": " + text
	}
	return text
}

// Lint warns of anything dangerous for a Patroni cluster in a haproxy.cfg, and returns how
// many sections it has judged. The nodes' names are those of cfg; if that is nil, names are not
// judged.
func Lint(text string, cfg *config.Config) (warnings []Warning, judged int) {
	l := readConfig(text)
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

// warn adds a mistake: one for each line, for all servers that share it.
func (l *lint) warn(line int, text, why string, servers ...string) {
	same := func(w Warning) bool { return w.Line == line && w.text == text }
	i := slices.IndexFunc(l.warnings, same)
	if i < 0 {
		i = len(l.warnings)
		l.warnings = append(l.warnings, Warning{Line: line, text: text, why: why})
	}
	l.warnings[i].servers = append(l.warnings[i].servers, servers...)
}

// database reports whether a section has servers that are in service by Patroni's state.
func (p *lintProxy) database() bool {
	if _, off := p.settings["disabled"]; off || p.name == "" || p.settings["mode"].value() == "http" {
		return false
	}
	_, httpchk := p.settings["option httpchk"]
	return slices.ContainsFunc(p.servers, func(s lintServer) bool { return httpchk && s.has("check") || s.has("agent-check") })
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

// judgeServer applies the rules to one server.
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

// judgeSend applies the rules to what a server's agent is asked.
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

// agentQuestion parses [cluster/]node/check?parameters.
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

// writes reports whether a section leads to the primary, by what its check asks for or,
// without a check, by what its agents are asked.
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

// expects200 reports whether a check passes with status 200 only.
func (p *lintProxy) expects200() bool {
	args := joinWords(p.settings["http-check expect"].args) + " "
	return strings.Contains(args, " status 200 ") && !strings.Contains(args, " ! status 200 ")
}
