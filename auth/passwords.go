package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

// Passwords are users with bcrypt hashes of their passwords. Printed with any
// verb, logged or encoded as JSON it shows neither. It is safe for concurrent use.
type Passwords struct {
	// OnReloadError is called when a changed file cannot be used, once for each
	// problem; the previous users stay. Set it before the first Check.
	OnReloadError func(error) `json:"-"`

	file    *htpasswd // nil for a fixed set
	users   atomic.Pointer[users]
	compare func(hash, password []byte) error

	// turns gives one login at a time its comparison, and clients in turns. Comparing
	// is slow on purpose, and guessing must neither take the processors away from
	// pulls nor make other clients wait.
	turns *fairqueue.Queue
	// alike lets one of several equal logins of a client have its turn. The others
	// then find it remembered.
	alike *fairqueue.Queue
	// good remembers logins by a keyed hash, so that a pull of a hundred requests
	// costs one comparison.
	good *lru.Cache[[sha256.Size]byte, time.Time]
	key  hidden[[]byte]
	now  func() time.Time
}

// users is never changed: a changed file makes a new one.
type users struct {
	hashes       map[string][]byte
	maxCostInUse int // the highest bcrypt cost among the hashes
}

const (
	maxCost      = 14 // keeps one comparison under about a second
	maxPassword  = 72 // bytes; bcrypt looks at no more
	rememberGood = 5 * time.Minute
	maxGood      = 4096
	maxWaiting   = 256         // different logins of one client
	maxAlike     = 4096        // requests of one client
	maxWait      = time.Minute // until the comparison begins
)

// NewPasswords returns a fixed set of users, from bcrypt hashes by user. Errors do
// not quote a hash.
func NewPasswords(hashes map[string]string) (*Passwords, error) {
	p := newPasswords(newUsers())
	return p, p.Replace(hashes)
}

// Replace puts other users in place of all of a fixed set. After an error they stay.
func (p *Passwords) Replace(hashes map[string]string) error {
	u := newUsers()
	for _, user := range slices.Sorted(maps.Keys(hashes)) {
		if err := u.add(user, []byte(hashes[user])); err != nil {
			return err
		}
	}
	p.users.Store(u)
	return nil
}

func newPasswords(u *users) *Passwords {
	p := &Passwords{
		turns: fairqueue.New(fairqueue.Options{Slots: 1, Waiting: maxWaiting}),
		alike: fairqueue.New(fairqueue.Options{Slots: math.MaxInt, PerClient: 1, AllWaiting: maxAlike}),
		now:   time.Now, compare: bcrypt.CompareHashAndPassword, OnReloadError: func(error) {},
	}
	p.users.Store(u)
	p.good, _ = lru.New[[sha256.Size]byte, time.Time](maxGood) // fails for sizes below 1 only
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	p.key = hide(key)
	return p
}

// Check returns nil if the password is the user's, ErrWrongLogin if it is not,
// ErrBusy if too many logins wait before this one, and ctx's error if ctx ends
// before the comparison begins. A wrong login takes equally long whether or not the
// user exists. Clients (budget.Client) take turns, so many logins of one
// client delay a login of another one by two comparisons at most.
func (p *Passwords) Check(ctx context.Context, user, password string) error {
	if p.file != nil {
		p.reload()
	}
	u := p.users.Load()
	if len(password) > maxPassword || len(u.hashes) == 0 {
		return ErrWrongLogin
	}
	hash, known := u.hashes[user]
	if !known {
		hash = decoy(u.maxCostInUse)
	}
	login := p.loginKey(user, password, hash)
	if p.remembered(login) {
		return nil
	}
	leave, err := p.enter(ctx, login)
	if err != nil {
		return err
	}
	defer leave()
	if p.remembered(login) {
		return nil // compared while we waited
	}
	if err := p.compare(hash, []byte(password)); err == nil && known {
		p.good.Add(login, p.now())
		return nil
	}
	p.good.Remove(login)
	// A comparison of cost c takes 2^c rounds. So one comparison each of c, c+1 and
	// so on, added to the one above, takes as long as one of the highest cost.
	for cost, _ := bcrypt.Cost(hash); cost < u.maxCostInUse; cost++ {
		_ = p.compare(decoy(cost), []byte(password)) // for the time it takes
	}
	return ErrWrongLogin
}

// Has reports whether there is a user of that name.
func (p *Passwords) Has(user string) bool {
	if p.file != nil {
		p.reload()
	}
	return p.users.Load().hashes[user] != nil
}

// enter waits for the turn of a login, or until it was compared meanwhile. One that was
// right before does not wait for its neighbours at the same address.
func (p *Passwords) enter(ctx context.Context, login [sha256.Size]byte) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	client := budget.Client(ctx)
	party := "client " + budget.Party(ctx)
	if p.good.Contains(login) {
		party = "login " + string(login[:])
	}
	waiting, cancel := context.WithTimeout(ctx, maxWait)
	defer cancel()
	next, err := p.alike.Enter(waiting, client, string(login[:]), "")
	if err == nil {
		leave = next
		if !p.remembered(login) {
			var end func()
			if end, err = p.turns.Enter(waiting, "", party, ""); err == nil {
				leave = func() { end(); next() }
			} else {
				next()
			}
		}
	}
	switch {
	case err == nil && ctx.Err() == nil:
		return leave, nil
	case err == nil:
		leave() // the caller left while it waited
		return nil, ctx.Err()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: %w", ErrBusy, err)
}

// decoy returns a hash that no known password has, to compare with where there is
// no user.
func decoy(cost int) []byte { return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", 53)) }

func (p *Passwords) remembered(login [sha256.Size]byte) bool {
	since, ok := p.good.Get(login)
	return ok && p.now().Sub(since) < rememberGood
}

// loginKey returns the key under which a good login is remembered. It includes the
// hash, so that a login with the old password ends when the password changes.
func (p *Passwords) loginKey(user, password string, hash []byte) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key())
	fmt.Fprintf(mac, "%d %s%d %s%s", len(user), user, len(password), password, hash)
	mac.Sum(key[:0])
	return key
}

func newUsers() *users { return &users{hashes: map[string][]byte{}} }

// bcryptHash matches the hashes that can be compared. It leaves out $2x$, which
// marks hashes of a faulty implementation. Comparing with any other text fails at
// once, and the short time would reveal that the user exists.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// add adds a user, or returns what is wrong with it. It never quotes the hash,
// because it may be a password that was put there by mistake.
func (u *users) add(user string, hash []byte) error {
	cost, err := bcrypt.Cost(hash)
	name, _, pasted := strings.Cut(user, ":") // people paste the whole line of htpasswd, hash included
	switch {
	case user == "":
		return errors.New("a hash without a user")
	case pasted:
		return fmt.Errorf("the user %q has a colon in the name, which no login can have", name)
	case u.hashes[user] != nil:
		return fmt.Errorf("the user %q is there twice", user)
	case err != nil || !bcryptHash.Match(hash):
		return fmt.Errorf("the hash of %q is not bcrypt's: make it with htpasswd -B", user)
	case cost > maxCost:
		return fmt.Errorf("the hash of %q has cost %d: comparing it would take seconds, want at most %d", user, cost, maxCost)
	}
	u.hashes[user] = hash
	u.maxCostInUse = max(u.maxCostInUse, cost)
	return nil
}
