package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// The users of an etcd of three members, each with the same password. Everybody else may do nothing.
const (
	ETCDRoot        = "root"
	ETCDPatroni     = "patroni"     // may read and write below /service/
	ETCDPatroniglue = "patroniglue" // may read there
)

// TLSDir is where an etcd of three members and its clients have their certificates: ca, etcd, patroni and patroniglue,
// each as .crt and .key, and the users' password.
func (l *Lab) TLSDir() string { return filepath.Join(l.Dir, "tls") }

// Discovery is the [discovery] of the lab's patroniglue.toml, for an etcd of three members.
func (l *Lab) Discovery() (string, error) {
	text, err := os.ReadFile(l.Config)
	if err != nil {
		return "", err
	}
	_, after, ok := strings.Cut(string(text), "[discovery]")
	if !ok {
		return "", fmt.Errorf("reading %s: it has no [discovery]", l.Config)
	}
	return "[discovery]" + after, nil
}

// ETCDClient connects a user to an etcd of three members.
func (l *Lab) ETCDClient(ctx context.Context, user string) (*clientv3.Client, error) {
	config, err := l.tls()
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(filepath.Join(l.TLSDir(), "password"))
	if err != nil {
		return nil, err
	}
	endpoints := make([]string, len(l.ETCD))
	for i, addr := range l.ETCD {
		endpoints[i] = "https://" + addr
	}
	c, err := clientv3.New(clientv3.Config{
		Context: ctx, Endpoints: endpoints, TLS: config, Username: user, Password: string(password), DialTimeout: 10 * time.Second,
		Logger: clientv3.NewCtxClient(ctx).GetLogger(), // none
	})
	if err != nil {
		return nil, fmt.Errorf("connecting %s to etcd: %w", user, err)
	}
	return c, nil
}

// ETCDLeader is the member of an etcd of three that leads it: ETCD+"1" to ETCD+"3".
func (l *Lab) ETCDLeader(ctx context.Context) (string, error) {
	c, err := l.ETCDClient(ctx, ETCDRoot)
	if err != nil {
		return "", err
	}
	defer c.Close()
	for i, endpoint := range c.Endpoints() {
		status, err := c.Status(ctx, endpoint)
		if err != nil {
			return "", fmt.Errorf("looking for etcd's leader: %w", err)
		}
		if status.Leader == status.Header.MemberId {
			return ETCD + strconv.Itoa(i+1), nil
		}
	}
	return "", fmt.Errorf("looking for etcd's leader: none of %v leads", c.Endpoints())
}

// ETCDMetric reads a series, such as "etcd_debugging_mvcc_watcher_total", of each member of an etcd of three.
func (l *Lab) ETCDMetric(ctx context.Context, series string) (values []float64, err error) {
	config, err := l.tls()
	if err != nil {
		return nil, err
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}, Timeout: 10 * time.Second}
	for _, addr := range l.ETCD {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+addr+"/metrics", nil)
		if err != nil {
			return nil, err
		}
		resp, err := client.Do(req)
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			return nil, err
		}
		_, after, ok := strings.Cut(string(text), "\n"+series+" ")
		value, _, _ := strings.Cut(after, "\n")
		v, err := strconv.ParseFloat(value, 64)
		if !ok || err != nil {
			return nil, fmt.Errorf("reading /metrics of etcd at %s: want a number for %s (got %q)", addr, series, value)
		}
		values = append(values, v)
	}
	return values, nil
}

// tls is that of etcd's own clients, whose certificate has no name that etcd would take for a user's.
func (l *Lab) tls() (*tls.Config, error) {
	authority, err := os.ReadFile(filepath.Join(l.TLSDir(), "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(authority) {
		return nil, fmt.Errorf("reading %s: no certificate", filepath.Join(l.TLSDir(), "ca.crt"))
	}
	own, err := tls.LoadX509KeyPair(filepath.Join(l.TLSDir(), "patroni.crt"), filepath.Join(l.TLSDir(), "patroni.key"))
	if err != nil {
		return nil, err
	}
	return &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{own}}, nil
}
