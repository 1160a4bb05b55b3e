package daemon

import (
	"bytes"
	"context"
	"maps"
	"os"

	"patroniglue/internal/config"
)

// changedFiles looks at the files that the configuration names: certificates are
// renewed without anybody telling us. What is still being written is left alone,
// until it is the same at two looks.
type changedFiles struct {
	seen, tried map[string][]byte
}

// look loads files that have changed, with the configuration as it was read last.
func (w *changedFiles) look(ctx context.Context, d *Daemon) {
	cfg := d.plan.Load().cfg
	now := make(map[string][]byte)
	for name, content := range cfg.Files {
		info, err := os.Stat(name)
		if err == nil && info.Mode().IsRegular() { // a pipe would give nothing, and wait
			content, err = os.ReadFile(name)
		}
		if err == nil {
			now[name] = content
		}
	}
	same := func(a, b map[string][]byte) bool { return maps.EqualFunc(a, b, bytes.Equal) }
	switch {
	case same(now, cfg.Files):
		w.seen, w.tried = nil, nil
		d.reloads.clear(&d.reloads.files)
		return
	case w.seen == nil || !same(now, w.seen):
		w.seen = now
		return
	case w.tried != nil && same(now, w.tried):
		return
	}
	w.tried = now
	fresh, err := config.Parse(d.path, cfg.Text, func(name string) ([]byte, error) {
		if content, ok := now[name]; ok {
			return content, nil
		}
		return os.ReadFile(name)
	})
	if err == nil {
		err = d.apply(ctx, fresh)
	}
	d.reloads.note(&d.reloads.files, err)
	if err != nil {
		d.log.Error().Err(err).Msg("files that the configuration names have changed and cannot be used: all stays as it was")
	}
}
