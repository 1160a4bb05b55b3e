package daemon

import (
	"maps"
	"slices"

	"github.com/rs/zerolog"
)

// maxLogged bounds how many problems of discovery are logged one by one.
const maxLogged = 1000

// problemLog logs each problem of discovery when it comes and when it is gone.
type problemLog struct {
	log    zerolog.Logger
	logged map[string]bool // and still there
}

// update logs how problems differ from those of the update before.
func (l *problemLog) update(problems []string) {
	logged := make(map[string]bool)
	for _, text := range problems {
		if len(logged) >= maxLogged {
			break
		}
		logged[text] = true
		if !l.logged[text] {
			l.log.Warn().Str("problem", text).Msg("discovery: problem")
		}
	}
	for _, text := range slices.Sorted(maps.Keys(l.logged)) {
		if !logged[text] {
			l.log.Info().Str("problem", text).Msg("discovery: problem resolved")
		}
	}
	l.logged = logged
}
