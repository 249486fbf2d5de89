package front

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
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
	// maxUnheard is how many logins of one client may wait to be checked.
	maxUnheard = 256
	// unheardFor is how long a login may wait for its check to begin.
	unheardFor = time.Minute
	// unheardRetry is how long a refused one is told to wait.
	unheardRetry = 5 * time.Second
)

// Guesses limits wrong logins, by the client's address and the user. A login is
// counted before it is checked and given back if it is right, so logins that come at
// once are no way around the limit. A client that guesses locks no other client
// out, and a login that was right lately passes whatever its neighbours at the
// same address do. It is safe for concurrent use.
type Guesses struct {
	rate    ratelimit.Rate
	ofUser  *ratelimit.Limiter // by client and user
	ofAll   *ratelimit.Limiter // by client
	unheard *fairqueue.Queue   // of one client, its logins one at a time, by user
	right   *lru.Cache[loginHash, time.Time]
	key     []byte
	now     func() time.Time
}

// loginHash stands for a login in memory. It is keyed, so that it is no help in
// finding a password.
type loginHash [sha256.Size]byte

// NewGuesses allows each client that many wrong logins as one user, and four times
// as many in all.
func NewGuesses(r ratelimit.Rate) *Guesses {
	g := &Guesses{
		rate: r, ofUser: ratelimit.New(r), ofAll: ratelimit.New(ratelimit.Rate{Events: r.Events * addressFactor, Per: r.Per}),
		unheard: fairqueue.New(fairqueue.Options{Slots: 1, Waiting: maxUnheard}),
		key:     make([]byte, 32), now: time.Now,
	}
	g.right, _ = lru.New[loginHash, time.Time](maxRight) // fails for sizes below 1 only
	_, _ = rand.Read(g.key)                              // never fails
	return g
}

// Try runs the check of a login, of which the user may be empty, and counts it if
// the login is wrong. A client that has been wrong too often is refused without a
// check, unless the login was right lately. Never checked are two unknown logins of
// one client at a time: the second one may prove to be the first, and right.
func (g *Guesses) Try(ctx context.Context, user, secret string, check func() error) error {
	login := g.hash(user, secret)
	if g.wasRight(login) {
		return g.again(ctx, login, user, check)
	}
	client := ClientOf(ctx)
	waiting, cancel := context.WithTimeout(ctx, unheardFor)
	defer cancel()
	leave, err := g.unheard.Enter(waiting, client, client, g.bucket(client, user))
	switch {
	case errors.Is(err, fairqueue.ErrFull):
		return Limited(unheardRetry, "too many logins from %s at once, at most %d may wait to be checked: try again", client, maxUnheard)
	case err != nil && ctx.Err() == nil:
		return Busy(unheardRetry, "too many logins from %s wait to be checked: try again", client)
	case err != nil:
		return ctx.Err()
	}
	defer leave()
	if g.wasRight(login) { // checked while this one waited
		leave()
		return g.again(ctx, login, user, check)
	}
	if err := g.take(client, user); err != nil {
		return err
	}
	wrong := false
	defer func() { // even if the check panics
		if !wrong {
			g.giveBack(client, user)
		}
	}()
	err = check()
	switch {
	case err == nil:
		g.right.Add(login, g.now())
	case errors.Is(err, auth.ErrWrongLogin):
		wrong = true
	}
	return busy(err)
}

// again checks a login that was right lately. If it no longer is, it is forgotten
// and counts as any other.
func (g *Guesses) again(ctx context.Context, login loginHash, user string, check func() error) error {
	err := check()
	switch {
	case err == nil:
		g.right.Add(login, g.now())
	case errors.Is(err, auth.ErrWrongLogin):
		g.right.Remove(login)
		if limited := g.take(ClientOf(ctx), user); limited != nil {
			return limited
		}
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

// take counts a wrong login of the client, or returns the error that tells the
// client to wait and counts nothing.
func (g *Guesses) take(client, user string) error {
	wait := g.ofAll.Take(client)
	if wait == 0 {
		if wait = g.ofUser.Take(g.bucket(client, user)); wait == 0 {
			return nil
		}
		g.ofAll.GiveBack(client)
	}
	return Limited(wait, "too many wrong logins from %s, at most %s are allowed: wait and check the password", client, g.rate)
}

func (g *Guesses) giveBack(client, user string) {
	g.ofAll.GiveBack(client)
	g.ofUser.GiveBack(g.bucket(client, user))
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
