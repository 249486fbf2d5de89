package auth

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/bcrypt"
)

// Passwords are users with bcrypt hashes of their passwords. Printed with any
// verb, logged or encoded as JSON it shows neither. It is safe for concurrent use.
type Passwords struct {
	// OnReloadError is told when a file that has changed is not good, once for each
	// problem; the users of before stay. Set it before the first Check.
	OnReloadError func(error) `json:"-"`

	file    *htpasswd // nil for a fixed set
	users   atomic.Pointer[users]
	compare func(hash, password []byte) error

	// turn is held while a password is compared, which is slow on purpose:
	// guessing must not take the processors away from pulls.
	turn chan struct{}
	// good remembers logins by a keyed hash, so that a pull of a hundred requests
	// costs one comparison.
	good *lru.Cache[[sha256.Size]byte, time.Time]
	key  hidden[[]byte]
	now  func() time.Time
}

// users are never changed: a new file makes new ones.
type users struct {
	hashes  map[string][]byte
	dearest int // the highest cost
}

const (
	maxCost      = 14 // keeps one comparison under about a second
	maxPassword  = 72 // bytes; bcrypt looks at no more
	rememberGood = 5 * time.Minute
	maxGood      = 4096
)

// NewPasswords takes bcrypt hashes by user.
func NewPasswords(hashes map[string]string) (*Passwords, error) {
	u := newUsers()
	for _, user := range slices.Sorted(maps.Keys(hashes)) {
		if err := u.add(user, []byte(hashes[user])); err != nil {
			return nil, err
		}
	}
	return newPasswords(u), nil
}

func newPasswords(u *users) *Passwords {
	p := &Passwords{turn: make(chan struct{}, 1), now: time.Now, compare: bcrypt.CompareHashAndPassword, OnReloadError: func(error) {}}
	p.users.Store(u)
	p.good, _ = lru.New[[sha256.Size]byte, time.Time](maxGood) // fails for sizes below 1 only
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails
	p.key = hide(key)
	return p
}

// Check returns nil if the password is the user's, ErrWrongLogin if not, and
// ctx's error when it ends before it is the password's turn to be compared. How
// long a wrong login takes does not tell whether there is such a user.
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
		hash = decoy(u.dearest)
	}
	login := p.loginKey(user, password, hash)
	if p.remembered(login) {
		return nil
	}
	select {
	case p.turn <- struct{}{}:
		defer func() { <-p.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := ctx.Err(); err != nil {
		return err // nobody is there any more
	}
	if p.remembered(login) {
		return nil // compared while we waited
	}
	if err := p.compare(hash, []byte(password)); err == nil && known {
		p.good.Add(login, p.now())
		return nil
	}
	// A comparison of cost c is 2^c rounds. So those of c, c+1 and so on, after the
	// one that was made, add up to one of the dearest.
	for cost, _ := bcrypt.Cost(hash); cost < u.dearest; cost++ {
		_ = p.compare(decoy(cost), []byte(password)) // for the time it takes
	}
	return ErrWrongLogin
}

// decoy is a hash of no known password, to be compared where there is no user.
func decoy(cost int) []byte { return fmt.Appendf(nil, "$2a$%02d$%s", cost, strings.Repeat(".", 53)) }

func (p *Passwords) remembered(login [sha256.Size]byte) bool {
	since, ok := p.good.Get(login)
	return ok && p.now().Sub(since) < rememberGood
}

// loginKey has the hash in it, so that a changed password ends what was
// remembered of the old one.
func (p *Passwords) loginKey(user, password string, hash []byte) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key())
	fmt.Fprintf(mac, "%d %s%d %s%s", len(user), user, len(password), password, hash)
	mac.Sum(key[:0])
	return key
}

func newUsers() *users { return &users{hashes: map[string][]byte{}} }

// bcryptHash leaves out $2x$, which marks hashes of a faulty implementation. What
// does not match would fail at once, and tell by that who has it.
var bcryptHash = regexp.MustCompile(`^\$2[aby]\$[0-9]{2}\$[./A-Za-z0-9]{53}$`)

// add never quotes the hash: it may be a password that somebody put there.
func (u *users) add(user string, hash []byte) error {
	cost, err := bcrypt.Cost(hash)
	name, _, pasted := strings.Cut(user, ":") // all of a line of htpasswd
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
	u.dearest = max(u.dearest, cost)
	return nil
}
