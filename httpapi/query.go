package httpapi

import (
	"net/url"
	"slices"
	"strings"

	"patroniglue/node"
)

// parseQuery reads parameters: only valid ones, each at most once. Every error is a
// [*node.ParameterError].
func parseQuery(raw string, valid ...string) (map[string]string, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, &node.ParameterError{Name: "query", Problem: "want name=value&name=value (got " + quote(raw) + ")"}
	}
	out := make(map[string]string)
	for name, values := range query {
		if !slices.Contains(valid, name) {
			return nil, &node.ParameterError{Name: name, Problem: "unknown, want " + strings.Join(valid, ", ")}
		}
		if len(values) > 1 {
			return nil, &node.ParameterError{Name: name, Problem: "want it once"}
		}
		out[name] = values[0]
	}
	return out, nil
}
