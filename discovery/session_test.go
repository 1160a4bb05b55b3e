package discovery

import (
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// Debian's etcd 3.4.23 reports a revision as progress before it sends the changes up to it.
// That is no reason to read thousands of members again; a restored backup is.
func TestCheckResponse(t *testing.T) {
	progress := func(revision int64) (r clientv3.WatchResponse) {
		r.Header = made(r.Header)
		r.Header.Revision = revision
		return r
	}
	changes := func(revision int64) clientv3.WatchResponse {
		r := progress(revision)
		r.Events = []*clientv3.Event{{}}
		return r
	}
	for _, tt := range []struct {
		name  string
		heard []clientv3.WatchResponse
		want  string
	}{
		{"progress ahead of changes", []clientv3.WatchResponse{progress(12), changes(11), changes(12), progress(12)}, "<nil>"},
		{"progress behind changes", []clientv3.WatchResponse{changes(12), progress(11), changes(13)}, "<nil>"},
		{"changes go back", []clientv3.WatchResponse{changes(12), progress(12), changes(11)}, "its revision went back from 12 to 11: restored from a backup?"},
		{"progress goes back", []clientv3.WatchResponse{progress(12), changes(12), progress(11)}, "its revision went back from 12 to 11: restored from a backup?"},
		{"back to before all was read", []clientv3.WatchResponse{progress(9)}, "its revision went back from 10 to 9: restored from a backup?"},
	} {
		s := &session{revisions: []int64{10}, progress: []int64{10}}
		var err error
		for _, r := range tt.heard {
			if err == nil {
				err = s.check(&response{WatchResponse: r})
			}
		}
		if got := fmt.Sprint(err); got != tt.want {
			t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
		}
	}
}

// made is of a type whose package is not ours to import.
func made[T any](*T) *T { return new(T) }
