package daemon

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"patroniglue/cluster"
	"patroniglue/internal/metrics"
)

// reloads records the outcome of configuration reloads.
type reloads struct {
	mu                sync.Mutex // guards the rest
	succeeded, failed uint64
	at                time.Time // of the latest success; before it, of the start
	configErr         error     // of the latest reload at SIGHUP; nil = it succeeded
	filesErr          error     // of the latest reload of changed files; nil = it succeeded, or they are as before again
}

// record records the outcome of a reload at SIGHUP, which reads all files, too.
func (r *reloads) record(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.configErr = err
	if err == nil {
		r.filesErr = nil
	}
	r.countLocked(err)
}

// recordFiles records the outcome of a reload of changed files.
func (r *reloads) recordFiles(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.filesErr = err
	r.countLocked(err)
}

// resolveFiles records that the files are those in use.
func (r *reloads) resolveFiles() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.filesErr = nil
}

func (r *reloads) countLocked(err error) {
	if err != nil {
		r.failed++
		return
	}
	r.succeeded++
	r.at = time.Now()
}

// reasons are the problems that remain from reloads.
func (r *reloads) reasons() []cluster.Reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	var reasons []cluster.Reason
	add := func(problem string, err error) {
		if err != nil {
			reasons = append(reasons, cluster.Reason{Code: cluster.CodeReloadFailed, Level: cluster.Warning, Text: problem + ": " + inOneLine(err)})
		}
	}
	add("reload failed, keeping the old configuration", r.configErr)
	add("reload of changed files failed, keeping the old ones", r.filesErr)
	return reasons
}

// inOneLine is the text of an error, of which only the first mistakes are shown.
func inOneLine(err error) string {
	const most = 10
	lines := strings.Split(err.Error(), "\n")
	if more := len(lines) - most; more > 0 {
		lines = append(lines[:most], fmt.Sprintf("and %d more", more))
	}
	return strings.Join(lines, "; ")
}

// state is the outcome of reloads as metrics show it.
func (r *reloads) state() metrics.ReloadState {
	r.mu.Lock()
	defer r.mu.Unlock()
	return metrics.ReloadState{Successful: r.configErr == nil && r.filesErr == nil, At: r.at, Succeeded: r.succeeded, Failed: r.failed}
}
