package front

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"math"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
	"github.com/waveproxy/waveproxy/ratelimit"
)

const (
	// addressFactor is how many times its allowance for one user a client may be
	// wrong about all users together.
	addressFactor = 4
	// rememberRight is how long a right login passes before the limits.
	rememberRight = 24 * time.Hour
	// maxRight bounds the memory of right logins. The one not used for longest is
	// forgotten, which costs it nothing while no neighbour guesses.
	maxRight = 8192
	// maxWrong bounds the memory of wrong logins. One that is forgotten counts anew.
	maxWrong = 8192
	// maxUnheard is how many different logins of one client may wait to be checked, and
	// maxAlike how many requests with them. A cluster may come at once after a restart.
	maxUnheard = 256
	maxAlike   = 4096
	// registrySlots is how many logins of one client for one registry are checked at
	// a time, because registries may take long to answer.
	registrySlots = 4
	// unheardFor is how long a login may wait for its check to begin.
	unheardFor = time.Minute
	// unheardRetry is how long a refused one is told to wait.
	unheardRetry = 5 * time.Second
)

// Guesses limits wrong logins, by the client's address and the user. A login is
// counted before it is checked and given back if it is right, so logins that come at
// once are no way around the limit. A client that guesses locks no other client
// out, and a login that was right lately passes whatever its neighbours at the
// same address do. A wrong login that is repeated is no new guess: it counts once for
// the address, and each time against a limit of its own. It is safe for concurrent
// use.
type Guesses struct {
	rate    ratelimit.Rate
	ofUser  *ratelimit.Limiter // by client and user, or token
	ofAll   *ratelimit.Limiter // by client
	alike   *fairqueue.Queue   // equal logins of one client, one at a time
	unheard *fairqueue.Queue   // of one client, its logins one at a time, by user
	right   *lru.Cache[loginHash, time.Time]
	wrong   *lru.Cache[loginHash, time.Time] // of one client
	key     []byte
	now     func() time.Time
}

// loginHash stands for a login in memory. It is keyed, so that it is no help in
// finding a password.
type loginHash [sha256.Size]byte

// NewGuesses allows each client that many wrong logins as one user, and four times
// as many in all.
func NewGuesses(r ratelimit.Rate) *Guesses { return newGuesses(r, 1) }

// NewRegistryGuesses is NewGuesses for logins to other registries, which may take
// long to answer: a few logins of a client are checked at a time at each.
func NewRegistryGuesses(r ratelimit.Rate) *Guesses { return newGuesses(r, registrySlots) }

func newGuesses(r ratelimit.Rate, slots int) *Guesses {
	g := &Guesses{
		rate: r, ofUser: ratelimit.New(r), ofAll: ratelimit.New(ratelimit.Rate{Events: r.Events * addressFactor, Per: r.Per}),
		alike:   fairqueue.New(fairqueue.Options{Slots: math.MaxInt, PerClient: 1, AllWaiting: maxAlike}),
		unheard: fairqueue.New(fairqueue.Options{Slots: slots, Waiting: maxUnheard}),
		key:     make([]byte, 32), now: time.Now,
	}
	g.right, _ = lru.New[loginHash, time.Time](maxRight) // fails for sizes below 1 only
	g.wrong, _ = lru.New[loginHash, time.Time](maxWrong)
	_, _ = rand.Read(g.key) // never fails
	return g
}

// attempt is one login of a client.
type attempt struct {
	client string
	user   string    // "" for tokens
	login  loginHash // of user and secret
	own    loginHash // of client, user and secret
}

func (g *Guesses) attempt(ctx context.Context, user, secret string) attempt {
	client := clientAndUser(ctx)
	return attempt{client, user, g.hash(user, secret), g.hash(client+"\n"+user, secret)}
}

// clientAndUser names the client that a request's logins count for: its address, with
// the user that has logged in to this server, if any.
func clientAndUser(ctx context.Context) string {
	client := ClientOf(ctx)
	if user := RecordOf(ctx).User; user != "" {
		return "user " + user + " at " + client
	}
	return client
}

// Try runs the check of a login, of which the user may be empty, and counts it if
// the login is wrong. A client that has been wrong too often is refused without a
// check, unless the login was right lately. Never checked are two unknown logins of
// one client at a time: the second one may prove to be the first, and right.
func (g *Guesses) Try(ctx context.Context, user, secret string, check func() error) error {
	return g.TryAt(ctx, "", user, secret, check)
}

// TryAt is Try for a login at another host. Logins of one client at several hosts do
// not wait for each other.
func (g *Guesses) TryAt(ctx context.Context, host, user, secret string, check func() error) error {
	if host != "" {
		user = host + " " + user
	}
	a := g.attempt(ctx, user, secret)
	if g.wasRight(a.login) {
		return g.again(a, check)
	}
	leave, err := g.wait(ctx, a, host)
	if err != nil {
		return err
	}
	defer leave()
	if g.wasRight(a.login) { // checked while this one waited
		leave()
		return g.again(a, check)
	}
	taken, err := g.take(a)
	if err != nil {
		return err
	}
	wrong := false
	defer func() { // even if the check panics
		if !wrong {
			giveBack(taken)
		}
	}()
	err = check()
	switch {
	case err == nil:
		g.right.Add(a.login, g.now())
	case errors.Is(err, auth.ErrWrongLogin):
		wrong = true
		g.wrong.Add(a.own, g.now())
	}
	return busy(err)
}

// wait returns when the login may be checked, or was right meanwhile. Equal logins
// have one place in the client's line, so that a thousand nodes with one login are as
// one.
func (g *Guesses) wait(ctx context.Context, a attempt, host string) (leave func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, unheardFor)
	defer cancel()
	next, err := g.alike.Enter(waiting, a.client, string(a.login[:]), "")
	if err == nil {
		if g.wasRight(a.login) {
			return next, nil
		}
		var end func()
		if end, err = g.unheard.Enter(waiting, a.client+" "+host, a.client, g.bucket(a.client, a.user)); err == nil {
			return func() { end(); next() }, nil
		}
		next()
	}
	switch {
	case errors.Is(err, fairqueue.ErrFull):
		return nil, Limited(unheardRetry, "too many logins from %s at once, at most %d may wait to be checked: try again", a.client, maxUnheard)
	case errors.Is(err, fairqueue.ErrAllFull):
		return nil, Limited(unheardRetry, "too many requests with logins from %s at once, at most %d may wait: try again", a.client, maxAlike)
	case ctx.Err() == nil:
		return nil, Busy(unheardRetry, "too many logins from %s wait to be checked: try again", a.client)
	}
	return nil, ctx.Err()
}

// again checks a login that was right lately. If it no longer is, it is forgotten
// and counts as any other.
func (g *Guesses) again(a attempt, check func() error) error {
	err := check()
	switch {
	case err == nil:
		g.right.Add(a.login, g.now())
	case errors.Is(err, auth.ErrWrongLogin):
		g.right.Remove(a.login)
		if _, limited := g.take(a); limited != nil {
			return limited
		}
		g.wrong.Add(a.own, g.now())
	}
	return busy(err)
}

// busy returns the error of a check as a client may know it.
func busy(err error) error {
	if errors.Is(err, auth.ErrBusy) {
		return fmt.Errorf("%w: %w", Busy(unheardRetry, "too many logins wait to be checked: try again"), err)
	}
	return err
}

// tally is a limit that a wrong login counts against.
type tally struct {
	limiter *ratelimit.Limiter
	key     string
}

// tallies are the limits that the login counts against. Each time it comes it counts
// for the user or, if it is a token, for that token. For the address, and for all tokens
// from there, one that is known to be wrong does not count again: a client that goes
// on with an expired token learns nothing, and must not use up what others there have.
func (g *Guesses) tallies(a attempt) []tally {
	own := tally{g.ofUser, g.bucket(a.client, a.user)}
	if a.user == "" {
		own.key = a.client + " " + string(a.own[:])
	}
	if at, ok := g.wrong.Get(a.own); ok && g.now().Sub(at) < g.rate.Per {
		return []tally{own}
	}
	all := []tally{own, {g.ofAll, a.client}}
	if a.user == "" {
		all = append(all, tally{g.ofUser, g.bucket(a.client, "")})
	}
	return all
}

// take counts a wrong login of the client, or returns the error that tells the
// client to wait and counts nothing.
func (g *Guesses) take(a attempt) (taken []tally, err error) {
	for _, c := range g.tallies(a) {
		if wait := c.limiter.Take(c.key); wait > 0 {
			giveBack(taken)
			return nil, Limited(wait, "too many wrong logins from %s, at most %s are allowed: wait and check the password", a.client, g.rate)
		}
		taken = append(taken, c)
	}
	return taken, nil
}

func giveBack(taken []tally) {
	for _, c := range taken {
		c.limiter.GiveBack(c.key)
	}
}

// bucket names a client's allowance for one user. Users are hashed, because
// strangers choose their length.
func (g *Guesses) bucket(client, user string) string {
	h := g.hash(user, "")
	return client + " " + string(h[:16])
}

func (g *Guesses) wasRight(login loginHash) bool {
	at, ok := g.right.Get(login)
	return ok && g.now().Sub(at) < rememberRight
}

func (g *Guesses) hash(user, secret string) (h loginHash) {
	mac := hmac.New(sha256.New, g.key)
	fmt.Fprintf(mac, "%d %s%s", len(user), user, secret)
	mac.Sum(h[:0])
	return h
}
