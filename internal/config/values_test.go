package config

import (
	"testing"
	"time"

	"patroniglue/test/harness"
)

func TestConfigDurations(t *testing.T) {
	for _, tt := range []struct {
		text string
		want time.Duration
	}{
		{`"2s"`, 2 * time.Second},
		{`"1500ms"`, 1500 * time.Millisecond},
		{`"1m30s"`, 90 * time.Second},
		{`2`, 2 * time.Second},
		{`2.5`, 2500 * time.Millisecond},
		{`1.1`, 1100 * time.Millisecond},
		{`1e2`, 100 * time.Second},
	} {
		t.Run(tt.text, func(t *testing.T) {
			c, err := parseTOML([]byte("backend.interval = 0.1\ncache.ttl = "+tt.text+harness.OneNode), harness.Files{}.Read)
			if err != nil {
				t.Fatal(err)
			}
			if c.Cache.TTL != tt.want {
				t.Errorf("got %s, want %s", c.Cache.TTL, tt.want)
			}
		})
	}
}
