//go:build linux

package main

import (
	"context"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// relay stands before a Patroni and counts what reaches it. Patroni speaks HTTP/1.0: one connection is one request.
type relay struct {
	net.Listener
	count  atomic.Int64
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

// startRelay relays to addr.
func startRelay(addr string) (*relay, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &relay{Listener: ln, cancel: cancel}
	r.wg.Go(func() {
		for {
			in, err := r.Accept()
			if err != nil {
				return
			}
			r.count.Add(1)
			r.wg.Go(func() { pass(ctx, in, addr) })
		}
	})
	return r, nil
}

// close ends the relay and its connections.
func (r *relay) close() {
	r.Close()
	r.cancel()
	r.wg.Wait()
}

// pass copies both ways until one of the two sides has ended.
func pass(ctx context.Context, in net.Conn, addr string) {
	defer in.Close()
	var d net.Dialer
	out, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return
	}
	defer out.Close()
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		defer cancel()
		io.Copy(out, in)
	}()
	go func() {
		defer cancel()
		io.Copy(in, out)
	}()
	<-ctx.Done()
}
