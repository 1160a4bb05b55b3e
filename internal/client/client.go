package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"

	"patroniglue/internal/config"
)

// unansweredError is why the daemon gave no answer.
type UnansweredError struct{ Err error }

func (e *UnansweredError) Error() string { return "asking the running daemon: " + e.Err.Error() }

func (e *UnansweredError) Unwrap() error { return e.Err }

// statusClient reaches the daemon that runs with this configuration, on the
// operator's listener where there is one. It trusts the certificate that the
// configuration names. Of passwords that has hashes only: the token opens, too.
func dial(cfg *config.Config) (*http.Client, string, error) {
	host, port := cfg.Frontend.Host, cfg.Frontend.Port
	certfile, keyfile := cfg.Frontend.Certfile, cfg.Frontend.Keyfile
	var token string
	if o := &cfg.Operator; o.Listen != "" {
		host, port, _ = config.SplitAddress(o.Listen) // checked with the configuration
		certfile, keyfile = o.Certfile, o.Keyfile
		if token = cfg.Frontend.Token; o.Users != nil && token == "" {
			return nil, "", errors.New("[operator] wants a password, and the configuration has its hash only: want token-file in [frontend]")
		}
	}
	if ip := net.ParseIP(host); host == "" || host == "*" || ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	addr := net.JoinHostPort(host, strconv.Itoa(port))
	if certfile == "" {
		return bearerClient(new(http.Transport), token), "http://" + addr, nil
	}
	pair, err := tls.LoadX509KeyPair(certfile, keyfile)
	if err != nil {
		return nil, "", fmt.Errorf("reading the certificate of %s: %w", addr, err)
	}
	tlsConfig := &tls.Config{
		MinVersion: cfg.Frontend.TLSMinVersion, CipherSuites: cfg.Frontend.TLSCiphers,
		Certificates: []tls.Certificate{pair}, // where a client certificate is required this one may do
		// Only this very certificate will do, whatever names it has or lacks.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			if !bytes.Equal(s.PeerCertificates[0].Raw, pair.Certificate[0]) {
				return fmt.Errorf("the certificate there is not the one in %s", certfile)
			}
			return nil
		},
	}
	return bearerClient(&http.Transport{TLSClientConfig: tlsConfig}, token), "https://" + addr, nil
}

// bearerClient shows a token, if there is one. It follows no redirect, which might
// lead the token elsewhere.
func bearerClient(t *http.Transport, token string) *http.Client {
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &http.Client{Transport: &bearer{t, token}, CheckRedirect: stay}
}

type bearer struct {
	*http.Transport
	token string
}

func (b *bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.token != "" {
		r = r.Clone(r.Context()) // as http.RoundTripper wants
		r.Header.Set("Authorization", "Bearer "+b.token)
	}
	return b.Transport.RoundTrip(r)
}

func getJSON(ctx context.Context, client *http.Client, url string, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s: status code %d, want 200 or 503: does another program answer there, or one with another configuration?", url, resp.StatusCode)
	}
	if err := json.NewDecoder(resp.Body).Decode(into); err != nil {
		return fmt.Errorf("%s: no JSON of a patroniglue: %w", url, err)
	}
	return nil
}
