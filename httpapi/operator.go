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

// Operator is what the operator's listener asks for.
type Operator struct {
	TLS   *tls.Config    // of connections to come; nil = plain HTTP
	Allow []netip.Prefix // who may connect; empty = everybody
	Users *Users         // who may ask, and who has Settings.Token; nil = everybody who may connect
}

// Of passwords. To compare one with its bcrypt hash takes a core for tens of
// milliseconds, on purpose: it is done for one at a time, so that checks have the
// other cores whatever is tried, and a wrong one holds up those behind it.
const (
	wrongPause = 100 * time.Millisecond // at least, and as long as it took: less than 10 a second can be tried, by all together
	maxLogins  = 32                     // that wait for their turn
	loginWait  = 5 * time.Second        // for it
)

// Users are those who may ask, with the bcrypt hashes of their passwords. What
// was right once is known again without bcrypt, so that an open page costs as
// little as without a password.
type Users struct {
	hashes map[string]string
	decoy  string // compared for a name that there is not, which takes as long
	key    []byte // of right; of this process alone

	mu    sync.Mutex
	right map[string][]byte // by name: the HMAC of the password that was right
}

// NewUsers takes bcrypt hashes by name, at least one.
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

// remembers says that the password was right before.
func (u *Users) remembers(name, password string) bool {
	sum := u.sum(password)
	u.mu.Lock()
	defer u.mu.Unlock()
	return hmac.Equal(u.right[name], sum)
}

// verify takes as long as bcrypt does, whoever is named.
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

// logins are those who say who they are.
type logins struct {
	turn        chan struct{} // whose place is taken while a password is verified
	waiting     atomic.Int64
	wrong, busy atomic.Uint64
}

func newLogins() logins { return logins{turn: make(chan struct{}, 1)} }

// Logins counts, since the start, who was not let in by the operator's listener.
type Logins struct {
	Wrong uint64 // name, password or token
	Busy  uint64 // too many passwords were to be verified: nobody knows whether it was right
}

// Logins gives the counts since the start.
func (s *Server) Logins() Logins { return Logins{s.logins.wrong.Load(), s.logins.busy.Load()} }

// login is what became of one.
type login int

const (
	loginWrong login = iota
	loginRight
	loginBusy
)

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
	if u.remembers(name, password) || u.verify(name, password) { // a page asks for several things at once
		return loginRight
	}
	time.Sleep(max(wrongPause, time.Since(began)))
	return loginWrong
}

// guard lets in who knows a user's password, or the token: programs have that.
// Browsers send a password by themselves, also when another site makes them ask:
// so that site may change nothing.
func (s *Server) guard(next http.Handler) http.Handler {
	origin := http.NewCrossOriginProtection()
	origin.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		writeError(w, r, http.StatusForbidden, "another site's page asked for this: want it from a page of this one, or from a program")
	}))
	next = origin.Handler(next)
	return safe(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		settings := s.settings.Load()
		if settings.Operator == nil {
			writeError(w, r, http.StatusServiceUnavailable, "there is no operator's listener any more")
			return
		}
		if settings.Operator.Users == nil || s.loggedIn(w, r, settings) {
			next.ServeHTTP(w, r)
		}
	}))
}

// loggedIn answers who is not.
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
		writeError(w, r, http.StatusServiceUnavailable, "too many passwords are to be verified: come back later")
		return false
	case r.Header.Get("Authorization") != "": // without, a browser only asks what is wanted
		s.logins.wrong.Add(1)
		s.cfg.Log.Warn().Str("peer", r.RemoteAddr).Msg("a wrong name, password or token on the operator's listener")
	}
	w.Header().Set("WWW-Authenticate", `Basic realm="patroniglue", charset="UTF-8"`)
	writeError(w, r, http.StatusUnauthorized, "want a user and a password of password-file in [operator], or the bearer token of token-file in [frontend]")
	return false
}

// hasToken says that the request has this bearer token, which may not be "".
func hasToken(r *http.Request, secret string) bool {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	want, got := sha256.Sum256([]byte(secret)), sha256.Sum256([]byte(strings.TrimSpace(token))) // of equal length, whatever was sent
	return secret != "" && strings.EqualFold(scheme, "Bearer") && subtle.ConstantTimeCompare(want[:], got[:]) == 1
}
