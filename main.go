package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"

	"patroniglue/internal/cli"
)

// version is set by build.sh.
var version = "unknown"

func main() {
	// The first signal ends the context, and stop makes a second one kill.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(cli.Main(ctx, version, os.Args[1:], os.Stdout, os.Stderr))
}
