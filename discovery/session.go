package discovery

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/connectivity"
)

// Limits of one session with etcd.
const (
	maxPage        = 500      // keys per read
	maxMessage     = 64 << 20 // bytes of an answer; etcd's own limit for a value is 1.5 MiB
	requestTimeout = 5 * time.Second
	progressEvery  = 3 * time.Second        // how often etcd is asked for its revision, to see that the watch works
	silentAfter    = StaleAfter             // without an answer for so long the watch is broken
	coalesce       = 50 * time.Millisecond  // how long changes are collected before a snapshot
	minPublishGap  = 100 * time.Millisecond // between two snapshots
	rereadEvery    = 5 * time.Minute        // everything, in case a watch missed something
)

var errReread = errors.New("everything is read again from time to time")

// session is one connection to one endpoint. It reads all keys once and watches them
// from then on. It ends with the first error; the next session reads all again, so
// nothing that happened in between is missed, not even a compaction or a restored
// backup.
type session struct {
	w        *Watcher
	settings *Settings
	endpoint string

	leaders map[place]string // at the end of the session before; nil = there was none

	client    *clientv3.Client
	table     *table
	revision  int64   // at which all was read
	revisions []int64 // by namespace: the newest that came with changes
	progress  []int64 // by namespace: the newest that came without
	cluster   uint64  // etcd's cluster
}

func (s *session) run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer func() {
		cancel()
		if s.client != nil {
			s.client.Close()
		}
		if err != nil && !errors.Is(err, errReread) {
			err = fmt.Errorf("etcd at %s: %w", s.endpoint, err)
		}
	}()
	if err := s.connect(ctx); err != nil {
		return explain(err)
	}
	if err := s.read(ctx); err != nil {
		return explain(err)
	}
	s.w.publish(s.settings, s.table.snapshot())
	for at, name := range s.table.leaders { // leaders that changed between the sessions
		if was, ok := s.leaders[at]; s.leaders != nil && (!ok || was != name) {
			s.w.leaderMoved(at.scope, name)
		}
	}
	return s.watch(ctx)
}

// Read reads once what is listed, from the first endpoint that answers. If none does,
// the error has the reason of each.
func Read(ctx context.Context, settings *Settings) (*Snapshot, error) {
	var errs []error
	for _, endpoint := range settings.Endpoints {
		s := &session{settings: settings, endpoint: endpoint}
		err := s.connect(ctx)
		if err == nil {
			err = s.read(ctx)
			s.client.Close()
		}
		if err == nil {
			return s.table.snapshot(), nil
		}
		errs = append(errs, fmt.Errorf("etcd at %s: %w", endpoint, explain(err)))
	}
	return nil, errors.Join(errs...)
}

func (s *session) connect(ctx context.Context) (err error) {
	config := clientv3.Config{
		Endpoints: []string{s.endpoint}, Context: ctx,
		Username: s.settings.Username, Password: s.settings.Password,
		DialTimeout: requestTimeout, // bounds the authentication
		// These end the connection to a member that hangs, which sends no FIN.
		DialKeepAliveTime: StaleAfter, DialKeepAliveTimeout: requestTimeout,
		MaxCallRecvMsgSize: maxMessage,
		MaxUnaryRetries:    2,                                                       // the second try gets a new token; then another session is tried
		Logger:             clientv3.NewCtxClient(context.Background()).GetLogger(), // it discards: what matters is in our errors
	}
	// Otherwise a request waits for a connection, and its error does not say why there
	// is none.
	config.DialOptions = []grpc.DialOption{grpc.WithChainUnaryInterceptor(
		func(ctx context.Context, method string, req, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, method, req, reply, conn, append(opts, grpc.WaitForReady(false))...)
		})}
	if strings.HasPrefix(s.endpoint, "https://") {
		if config.TLS = s.settings.TLS; config.TLS == nil {
			config.TLS = &tls.Config{}
		}
		config.TLS = config.TLS.Clone() // clientv3 changes it
	}
	s.client, err = clientv3.New(config)
	return err
}

// read reads every namespace, all at one revision, page by page, and keeps only what
// matters of each page. The reads are linearizable: they fail while etcd has no
// leader.
func (s *session) read(ctx context.Context) error {
	s.table = newTable(s.settings)
	for n, namespace := range s.settings.Namespaces {
		key, end, page := namespace, clientv3.GetPrefixRangeEnd(namespace), int64(maxPage)
		for more := true; more; {
			resp, err := s.get(ctx, key, clientv3.WithRange(end), clientv3.WithLimit(page), clientv3.WithRev(s.revision),
				clientv3.WithSort(clientv3.SortByKey, clientv3.SortAscend))
			if err != nil && page > 1 && strings.Contains(err.Error(), "larger than max") {
				page = max(1, page/8)
				continue
			}
			if err != nil {
				return fmt.Errorf("reading %q: %w", namespace, err)
			}
			for _, kv := range resp.Kvs {
				s.table.countKey(string(kv.Key))
				s.table.put(n, string(kv.Key), kv.Value, kv.CreateRevision)
				key = string(kv.Key) + "\x00"
			}
			more, page = resp.More, min(2*page, maxPage)
		}
	}
	if s.table.keys == 0 {
		// For the message about a wrong namespace. An error is ignored, because the user may
		// not be allowed to read other keys.
		if resp, err := s.get(ctx, "\x00", clientv3.WithFromKey(), clientv3.WithLimit(3), clientv3.WithKeysOnly()); err == nil {
			for _, kv := range resp.Kvs {
				s.table.sampleKeys = append(s.table.sampleKeys, string(kv.Key))
			}
		}
	}
	return nil
}

func (s *session) get(ctx context.Context, key string, options ...clientv3.OpOption) (*clientv3.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	resp, err := s.client.Get(ctx, key, options...)
	if err != nil {
		return nil, err
	}
	s.cluster = resp.Header.ClusterId
	if s.revision == 0 {
		s.revision = resp.Header.Revision
	}
	return resp, nil
}

// response is a response of the watch of one namespace.
type response struct {
	namespace int
	clientv3.WatchResponse
	ended bool
}

// watch keeps the table up to date after read, until the first error.
func (s *session) watch(ctx context.Context) error {
	ctx = clientv3.WithRequireLeader(ctx) // otherwise a member that is cut off from the others would stay silent
	responses, broken := make(chan response), make(chan string, 1)
	s.revisions = slices.Repeat([]int64{s.revision}, len(s.settings.Namespaces))
	s.progress = slices.Clone(s.revisions)
	for n := range s.settings.Namespaces { // all on one stream, as their context is the same
		go s.forward(ctx, n, responses)
	}
	go s.watchConnection(ctx, broken)

	ticker, silent := time.NewTicker(progressEvery), time.NewTimer(silentAfter)
	defer ticker.Stop()
	defer silent.Stop()
	reread := time.NewTimer(time.Duration(float64(rereadEvery) * (0.9 + 0.2*rand.Float64())))
	defer reread.Stop()
	publish := time.NewTimer(0)
	defer publish.Stop()
	<-publish.C
	dirty, asking, last := false, make(chan struct{}, 1), time.Now()
	for {
		select {
		case r := <-responses:
			if err := s.check(&r); err != nil {
				return err
			}
			silent.Reset(silentAfter)
			s.w.recordAnswer(s.settings)
			if s.applyEvents(&r) && !dirty {
				dirty = true
				publish.Reset(max(coalesce, minPublishGap-time.Since(last)))
			}
		case <-publish.C:
			dirty, last = false, time.Now()
			s.w.publish(s.settings, s.table.snapshot())
		case <-ticker.C:
			select {
			case asking <- struct{}{}:
				go func() {
					_ = s.client.RequestProgress(ctx) // the answer comes as a response of the watch, or not at all
					<-asking
				}()
			default:
			}
		case <-silent.C:
			return fmt.Errorf("the watch is silent for %s", silentAfter)
		case why := <-broken:
			return errors.New(why)
		case <-reread.C:
			return errReread
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// forward sends the responses of the watch of namespace n to a channel.
func (s *session) forward(ctx context.Context, n int, to chan<- response) {
	send := func(r response) {
		select {
		case to <- r:
		case <-ctx.Done():
		}
	}
	watch := s.client.Watch(ctx, s.settings.Namespaces[n], clientv3.WithPrefix(), clientv3.WithRev(s.revision+1),
		clientv3.WithCreatedNotify(), clientv3.WithProgressNotify(), clientv3.WithFragment())
	for r := range watch {
		send(response{namespace: n, WatchResponse: r})
	}
	send(response{ended: true})
}

// watchConnection reports when the connection is lost. clientv3 would continue the
// watch over another connection, to the same member or one that was restored in its
// place, where the revision may not exist yet.
func (s *session) watchConnection(ctx context.Context, broken chan<- string) {
	conn := s.client.ActiveConnection()
	for state := conn.GetState(); ctx.Err() == nil; state = conn.GetState() {
		if state != connectivity.Ready {
			broken <- "the connection is lost"
			return
		}
		conn.WaitForStateChange(ctx, state)
	}
}

// check returns an error if a response ends the watch.
func (s *session) check(r *response) error {
	if r.CompactRevision != 0 {
		return fmt.Errorf("revision %d is compacted, up to %d: changes were missed", s.revisions[r.namespace], r.CompactRevision)
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("the watch is cancelled: %w", explain(err))
	}
	// Until 3.4.25 and 3.5.8 etcd may report a revision as progress before it sends the
	// changes up to it (etcd-io/etcd#15220), so the two are compared apart.
	newest := &s.revisions[r.namespace]
	if len(r.Events) == 0 {
		newest = &s.progress[r.namespace]
	}
	switch h := r.Header; {
	case r.ended:
		return errors.New("the watch has ended")
	case h.ClusterId != 0 && h.ClusterId != s.cluster:
		return fmt.Errorf("another etcd cluster answers, %x, not %x: restored from a backup?", h.ClusterId, s.cluster)
	case h.Revision != 0 && h.Revision < *newest:
		return fmt.Errorf("its revision went back from %d to %d: restored from a backup?", *newest, h.Revision)
	}
	*newest = max(*newest, r.Header.Revision)
	return nil
}

// applyEvents updates the table and reports whether the next snapshot differs.
func (s *session) applyEvents(r *response) (changed bool) {
	var scopes []string
	for _, ev := range r.Events {
		key := string(ev.Kv.Key)
		var scope string
		var memberChanged, leaderChanged bool
		if ev.Type == clientv3.EventTypeDelete {
			scope, memberChanged, leaderChanged = s.table.remove(r.namespace, key)
		} else {
			scope, memberChanged, leaderChanged = s.table.put(r.namespace, key, ev.Kv.Value, ev.Kv.CreateRevision)
		}
		changed = changed || memberChanged
		if leaderChanged && !slices.Contains(scopes, scope) {
			scopes = append(scopes, scope)
		}
	}
	for _, scope := range scopes {
		s.w.leaderMoved(scope, s.table.leaders[place{r.namespace, scope, ""}])
	}
	return changed
}

// explain turns an error of gRPC into one that helps an operator.
func explain(err error) error {
	text, quoted := err.Error(), false
	for _, noise := range []string{`rpc error: code = Unavailable desc = `, `connection error: desc = "transport: `, `Error while dialing: `} {
		if before, after, ok := strings.Cut(text, noise); ok {
			text, quoted = before+after, quoted || strings.HasSuffix(noise, `"transport: `)
		}
	}
	if quoted {
		text = strings.ReplaceAll(strings.TrimSuffix(text, `"`), `\"`, `"`)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "DeadlineExceeded"):
		text = fmt.Sprintf("no answer within %s (%s)", requestTimeout, text)
	case strings.Contains(text, "permission denied"):
		text += ": want a user whose role may read the namespace (docs/security.md)"
	case strings.Contains(text, "user name is empty"):
		text += ": it wants a username and a password-file, or a client certificate"
	}
	return errors.New(text)
}
