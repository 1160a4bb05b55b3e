package cluster

import (
	"context"
	"time"

	"patroniglue/node"
)

// Question names a node and a check of it.
type Question struct {
	Cluster string // "" if only one cluster has a node of that name
	Node    string // its configured name
	Check   string // a name that node.CheckNames lists
	Query   string // the raw query, such as "lag=16MB"; "" = none
}

// Answer is the verdict on a Question and the view that it was made from.
type Answer struct {
	View    *View
	Member  *Member
	Check   node.Check
	Verdict node.Verdict
	At      time.Time // when the verdict was made
}

// Ask answers a question from memory. It waits in two cases only: for the node's
// first poll, at most as long as a poll may take, and for a node that is not known
// while more nodes may be announced ([Supervisor.Pending]), at most 3 s. A question
// that cannot be answered gives an [*UnknownError], an [*AmbiguousError], a
// [*node.UnknownCheckError] or a [*node.ParameterError].
func (s *Supervisor) Ask(ctx context.Context, q Question) (Answer, error) {
	r, i, err := s.find(ctx, q.Cluster, q.Node)
	if err != nil {
		return Answer{}, err
	}
	check, err := node.ParseCheck(q.Check, q.Query)
	if err != nil {
		return Answer{}, err
	}
	if r, i, err = s.await(ctx, r, i, q.Cluster, q.Node); err != nil {
		return Answer{}, err
	}
	return r.answer(i, check), nil
}

// AskNow is Ask without waiting: ok is false if Ask would wait or return an error.
func (s *Supervisor) AskNow(q Question) (a Answer, ok bool) {
	r, i, err := s.watched.Load().find(q.Cluster, q.Node)
	if err != nil {
		return Answer{}, false
	}
	check, err := node.ParseCheck(q.Check, q.Query)
	if err != nil {
		return Answer{}, false
	}
	a = r.answer(i, check)
	return a, a.Member.Polled
}

// AskAll answers a check for every node of a cluster. It waits for first polls
// only while no node passes. Its errors are those of Ask.
func (s *Supervisor) AskAll(ctx context.Context, cluster, check, query string) ([]Answer, error) {
	w := s.settled(ctx, func(w *watched) bool { return w.byName[cluster] != nil })
	r, err := w.cluster(cluster)
	if err != nil {
		return nil, err
	}
	c, err := node.ParseCheck(check, query)
	if err != nil {
		return nil, err
	}
	if answers, done := r.askAll(&c); done {
		return answers, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	for {
		arrival := r.group.nextArrival()
		if r, err = s.watched.Load().cluster(cluster); err != nil {
			return nil, err // removed while we waited
		}
		answers, done := r.askAll(&c)
		if done || ctx.Err() != nil {
			return answers, nil
		}
		select {
		case <-arrival:
		case <-ctx.Done():
		}
	}
}

// Find returns a node and the view that it is part of. It waits as Ask does. Its
// error is an [*UnknownError] or an [*AmbiguousError].
func (s *Supervisor) Find(ctx context.Context, cluster, node string) (*View, *Member, error) {
	r, i, err := s.find(ctx, cluster, node)
	if err == nil {
		r, i, err = s.await(ctx, r, i, cluster, node)
	}
	if err != nil {
		return nil, nil, err
	}
	v := r.latest()
	return v, v.Members[i], nil
}

// pendingWait bounds how long a question waits for a node that is not known yet.
const pendingWait = 3 * time.Second

// settled returns what is watched as soon as has accepts it or no more nodes may be
// announced, at the latest after pendingWait.
func (s *Supervisor) settled(ctx context.Context, has func(*watched) bool) *watched {
	w := s.watched.Load()
	if w.pending == "" || has(w) {
		return w
	}
	ctx, cancel := context.WithTimeout(ctx, pendingWait)
	defer cancel()
	for w.pending != "" && !has(w) {
		select {
		case <-w.replaced:
		case <-ctx.Done():
			return w
		}
		w = s.watched.Load()
	}
	return w
}

func (s *Supervisor) find(ctx context.Context, cluster, node string) (*roster, int, error) {
	return s.settled(ctx, func(w *watched) bool {
		_, _, err := w.find(cluster, node)
		return err == nil
	}).find(cluster, node)
}

// await waits until r's node i was polled, at most as long as a poll may take. The
// node may be removed or move to another cluster meanwhile, so it is looked up
// again.
func (s *Supervisor) await(ctx context.Context, r *roster, i int, cluster, node string) (*roster, int, error) {
	if r.polled(i) {
		return r, i, nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.timeout)
	defer cancel()
	for {
		select {
		case <-r.nodes[i].first:
		case <-ctx.Done():
		}
		var err error
		r, i, err = s.watched.Load().find(cluster, node)
		if err != nil || ctx.Err() != nil || r.polled(i) {
			return r, i, err
		}
	}
}
