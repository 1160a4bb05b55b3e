package httpapi

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Operator is the settings of the operator's listener.
type Operator struct {
	TLS   *tls.Config    // for new connections; nil = plain HTTP
	Allow []netip.Prefix // peers that may connect; empty = all
	Users *Users         // users that may log in, besides Settings.Token; nil = no login is needed
}

// What logins may cost. Verifying a password with bcrypt occupies a core for tens of
// milliseconds, on purpose. Passwords are verified one at a time, so that checks have
// the other cores, and a wrong password delays those that wait behind it.
const (
	wrongPause = 100 * time.Millisecond // after a wrong password, or for as long as its verification took: fewer than 10 a second can be tried, by all clients together
	maxLogins  = 32                     // logins that may wait for their turn
	loginWait  = 5 * time.Second        // how long a login waits for its turn
)

// Users are the users that may log in, with the bcrypt hashes of their passwords. A
// password that was right once is recognized without bcrypt, so that an open page costs
// as little as one without a password.
type Users struct {
	hashes map[string]string
	decoy  string // the hash to compare with for an unknown name, which takes as long
	key    []byte // of the HMACs in right; only this process has it

	mu    sync.Mutex
	right map[string][]byte // by name: the HMAC of the right password
}

// NewUsers makes Users from bcrypt hashes by name, at least one.
func NewUsers(hashes map[string]string) *Users {
	u := &Users{hashes: hashes, key: make([]byte, sha256.Size), right: make(map[string][]byte)}
	rand.Read(u.key) // never fails
	for _, hash := range hashes {
		u.decoy = max(u.decoy, hash) // with the highest cost
	}
	return u
}

func (u *Users) sum(password string) []byte {
	h := hmac.New(sha256.New, u.key)
	h.Write([]byte(password))
	return h.Sum(nil)
}

// remembers reports whether the password was right before.
func (u *Users) remembers(name, password string) bool {
	sum := u.sum(password)
	u.mu.Lock()
	defer u.mu.Unlock()
	return hmac.Equal(u.right[name], sum)
}

// verify compares a password with bcrypt. It takes as long for an unknown name.
func (u *Users) verify(name, password string) bool {
	hash, known := u.hashes[name]
	if !known {
		hash = u.decoy
	}
	if bcrypt.CompareHashAndPassword([]byte(hash), []byte(password)) != nil || !known {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.right[name] = u.sum(password)
	return true
}

// logins bounds and counts logins.
type logins struct {
	turn        chan struct{} // has one place, which is taken while a password is verified
	waiting     atomic.Int64
	wrong, busy atomic.Uint64
}

func newLogins() logins { return logins{turn: make(chan struct{}, 1)} }

// Logins counts failed logins on the operator's listener.
type Logins struct {
	Wrong uint64 // with a wrong name, password or token
	Busy  uint64 // not verified, because too many logins were waiting
}

// Logins returns the counts since the start.
func (s *Server) Logins() Logins { return Logins{s.logins.wrong.Load(), s.logins.busy.Load()} }

// login is the outcome of a login.
type login int

const (
	loginWrong login = iota
	loginRight
	loginBusy
)

// try verifies a password, when its turn comes.
func (l *logins) try(ctx context.Context, u *Users, name, password string) login {
	if u.remembers(name, password) {
		return loginRight
	}
	defer l.waiting.Add(-1)
	if l.waiting.Add(1) > maxLogins {
		return loginBusy
	}
	ctx, cancel := context.WithTimeout(ctx, loginWait)
	defer cancel()
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return loginBusy
	}
	defer func() { <-l.turn }()
	began := time.Now()
	if u.remembers(name, password) || u.verify(name, password) { // a page sends several requests at once
		return loginRight
	}
	time.Sleep(max(wrongPause, time.Since(began)))
	return loginWrong
}

// guard requires a user's password or, for programs, the token. A browser sends the
// password by itself, also with requests that another site makes it send:
// those may change nothing.
func (s *Server) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, http.StatusForbidden, "cross-site request: want one from a page of this site, or from a program")
	}))
	next = origin.Handler(next)
	return safeHeaders(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		settings := s.settings.Load()
		if settings.Operator == nil {
			writeError(w, r, http.StatusServiceUnavailable, "the operator's listener is closing")
			return
		}
		if settings.Operator.Users == nil || s.loggedIn(w, r, settings) {
			next.ServeHTTP(w, r)
		}
	}))
}

// loggedIn reports whether the request has a valid login; else it answers the request.
func (s *Server) loggedIn(w http.ResponseWriter, r *http.Request, settings *Settings) bool {
	name, password, basic := r.BasicAuth()
	result := loginWrong
	if basic {
		result = s.logins.try(r.Context(), settings.Operator.Users, name, password)
	} else if hasToken(r, settings.Token) {
		result = loginRight
	}
	switch {
	case result == loginRight:
		return true
	case result == loginBusy:
		s.logins.busy.Add(1)
		w.Header().Set("Retry-After", "5")
		writeError(w, r, http.StatusServiceUnavailable, "too many logins are waiting: try again later")
		return false
	case r.Header.Get("Authorization") != "": // a browser's first request has none
		s.logins.wrong.Add(1)
		s.cfg.Log.Warn().Str("peer", r.RemoteAddr).Msg("login on the operator's listener failed: wrong name, password or token")
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="patroniglue", charset="UTF-8"`)
	writeError(w, r, http.StatusUnauthorized, "want a user and a password of password-file in [operator], or the bearer token of token-file in [frontend]")
	return false
}

// hasToken reports whether the request has this bearer token, which must not be "".
func hasToken(r *http.Request, secret string) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(strings.TrimSpace(token))) // of equal length, whatever was sent
	return secret != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}
