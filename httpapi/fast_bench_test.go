package httpapi_test

import (
	"testing"

	"patroniglue/httpapi"
)

// BenchmarkFast measures our own part of a fast check.
func BenchmarkFast(b *testing.B) {
	s := httpapi.New(httpapi.Config{Supervisor: ready(b), Settings: httpapi.Settings{Fast: true}})
	for _, name := range []string{"HAProxy, http-check send", "HAProxy, option httpchk", "kube-probe"} {
		b.Run(name, func(b *testing.B) {
			request, out := []byte(checkers[name]), make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				if s.AnswerFast(loopback, request, out) == nil {
					b.Fatal("no answer")
				}
			}
		})
	}
}
