package haproxy

import (
	"regexp"
)

var (
	lintSections = []string{"global", "defaults", "listen", "frontend", "backend", "userlist", "peers", "mailers", "namespace_list",
		"resolvers", "cache", "http-errors", "ring", "log-forward", "log-profile", "program", "fcgi-app", "crt-store", "traces", "acme"}
	nbsrv = regexp.MustCompile(`\bnbsrv(?:\(([^),]+))?`)
)
