package cli

import (
	"github.com/rs/zerolog"
)

func init() {
	zerolog.TimeFieldFormat = "2006-01-02T15:04:05.000Z07:00" // milliseconds matter at a switchover
}

// newLogger logs JSON, or in columns where a person watches.
func (c *call) newLogger() zerolog.Logger {
	w := c.stderr
	level := zerolog.InfoLevel
	switch {
	case c.debug:
		level = zerolog.DebugLevel
	case c.quiet && !c.verbose:
		level = zerolog.WarnLevel
	}
	if isTerminal(w) {
		w = zerolog.ConsoleWriter{Out: w, TimeFormat: "15:04:05.000", NoColor: !takesColour(w)}
	}
	return zerolog.New(w).Level(level).With().Timestamp().Logger()
}
