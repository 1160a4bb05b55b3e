package daemon

import (
	"testing"

	"patroniglue/internal/config"
)

func TestFit(t *testing.T) {
	both := func(n int) config.Limits { return config.Limits{HTTPConnections: n, AgentConnections: n} }
	for _, tt := range []struct {
		name         string
		limits       config.Limits
		files        uint64
		nodes, ports int
		want         config.Limits
		remark       bool
	}{
		{"as of the systemd unit", both(4096), 65536, 300, 602, both(4096), false},
		{"just enough", both(100), 64 + 2*3 + 2 + 200, 3, 2, both(100), false},
		{"one too few", both(100), 64 + 2*3 + 2 + 199, 3, 2, config.Limits{HTTPConnections: 99, AgentConnections: 100}, true},
		{"in proportion", config.Limits{HTTPConnections: 3000, AgentConnections: 1000}, 64 + 2*3 + 2 + 400, 3, 2, config.Limits{HTTPConnections: 300, AgentConnections: 100}, true},
		{"too few for anything", both(4096), 100, 300, 2, both(config.MinConnections), true},
		{"without a limit", both(4096), 1<<64 - 1, 3, 2, both(4096), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, remarks := fitLimits(tt.limits, tt.files, tt.nodes, tt.ports)
			if got != tt.want || len(remarks) > 0 != tt.remark {
				t.Errorf("%+v %q, want %+v", got, remarks, tt.want)
			}
		})
	}
}
