package auth

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/crypto/bcrypt"
)

// Passwords are users with bcrypt hashes of their passwords. It is safe for
// concurrent use.
type Passwords struct {
	// OnReloadError is told when a file that has changed is not good; the users of
	// before stay. Set it before the first Check.
	OnReloadError func(error)

	path string // "" for a fixed set

	mu     sync.Mutex
	users  *users
	looked time.Time
	stamp  fileStamp

	// turn is held while a password is compared, which is slow on purpose:
	// guessing must not take the processors away from pulls.
	turn chan struct{}
	// good remembers logins by a keyed hash, so that a pull of a hundred requests
	// costs one comparison.
	good *lru.Cache[[sha256.Size]byte, time.Time]
	key  [32]byte
	now  func() time.Time
}

type users struct {
	hashes map[string][]byte
	// decoy is compared for users who do not exist, so that the time it takes does
	// not tell who is known. Its cost is the highest of all.
	decoy []byte
}

// fileStamp tells whether a file has changed.
type fileStamp struct {
	modified time.Time
	size     int64
}

const (
	maxHtpasswd  = 1 << 20
	maxCost      = 14          // keeps one comparison under about a second
	maxPassword  = 72          // bytes; bcrypt looks at no more
	lookAgain    = time.Second // how long a changed file may go unnoticed
	rememberGood = 5 * time.Minute
	maxGood      = 4096
)

// NewPasswords takes bcrypt hashes by user.
func NewPasswords(hashes map[string]string) (*Passwords, error) {
	u := &users{hashes: map[string][]byte{}}
	for user, hash := range hashes {
		if err := u.add(user, []byte(hash)); err != nil {
			return nil, err
		}
	}
	return newPasswords(u), nil
}

// OpenHtpasswd reads users from a file as "htpasswd -B" writes it, and again
// when it changes. Hashes other than bcrypt's are an error that names the line.
func OpenHtpasswd(path string) (*Passwords, error) {
	u, stamp, err := readHtpasswd(path)
	if err != nil {
		return nil, err
	}
	p := newPasswords(u)
	p.path, p.stamp, p.looked = path, stamp, p.now()
	return p, nil
}

func newPasswords(u *users) *Passwords {
	p := &Passwords{users: u, turn: make(chan struct{}, 1), now: time.Now, OnReloadError: func(error) {}}
	p.good, _ = lru.New[[sha256.Size]byte, time.Time](maxGood) // fails for sizes below 1 only
	_, _ = rand.Read(p.key[:])                                 // never fails
	return p
}

// Check returns nil if the password is the user's, ErrWrongLogin if not, and
// ctx's error when it ends before it is the password's turn to be compared.
func (p *Passwords) Check(ctx context.Context, user, password string) error {
	u := p.current()
	hash, known := u.hashes[user]
	if !known {
		hash = u.decoy
	}
	if len(password) > maxPassword || len(hash) == 0 {
		return ErrWrongLogin
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
	if p.remembered(login) {
		return nil // compared while we waited
	}
	if err := bcrypt.CompareHashAndPassword(hash, []byte(password)); err != nil || !known {
		return ErrWrongLogin
	}
	p.good.Add(login, p.now())
	return nil
}

func (p *Passwords) remembered(login [sha256.Size]byte) bool {
	since, ok := p.good.Get(login)
	return ok && p.now().Sub(since) < rememberGood
}

// loginKey has the hash in it, so that a changed password ends what was
// remembered of the old one.
func (p *Passwords) loginKey(user, password string, hash []byte) (key [sha256.Size]byte) {
	mac := hmac.New(sha256.New, p.key[:])
	fmt.Fprintf(mac, "%d %s%d %s%s", len(user), user, len(password), password, hash)
	mac.Sum(key[:0])
	return key
}

// current returns the users, of a file as it is now.
func (p *Passwords) current() *users {
	p.mu.Lock()
	defer p.mu.Unlock()
	if now := p.now(); p.path != "" && now.Sub(p.looked) >= lookAgain {
		p.looked = now
		p.reload()
	}
	return p.users
}

func (p *Passwords) reload() {
	stamp, err := stampOf(p.path)
	if err == nil && stamp == p.stamp {
		return
	}
	var u *users
	if err == nil {
		u, stamp, err = readHtpasswd(p.path)
	}
	if err != nil {
		if p.stamp != (fileStamp{}) { // told once
			p.OnReloadError(err)
		}
		p.stamp = fileStamp{}
		return
	}
	p.users, p.stamp = u, stamp
}

func stampOf(path string) (fileStamp, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileStamp{}, err
	}
	return fileStamp{info.ModTime(), info.Size()}, nil
}

func readHtpasswd(path string) (*users, fileStamp, error) {
	stamp, err := stampOf(path) // before reading: what changes meanwhile is seen next time
	if err != nil {
		return nil, stamp, err
	}
	if stamp.size > maxHtpasswd {
		return nil, stamp, fmt.Errorf("%s has %d bytes, and at most %d are read", path, stamp.size, maxHtpasswd)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, stamp, err
	}
	u := &users{hashes: map[string][]byte{}}
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok {
			return nil, stamp, fmt.Errorf("%s:%d: want user:hash, as htpasswd -B writes it", path, n)
		}
		if err := u.add(user, []byte(hash)); err != nil {
			return nil, stamp, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return u, stamp, lines.Err()
}

// add never quotes the hash: it may be a password that somebody put there.
func (u *users) add(user string, hash []byte) error {
	cost, err := bcrypt.Cost(hash)
	highest, _ := bcrypt.Cost(u.decoy) // 0 without one
	switch {
	case user == "":
		return errors.New("a hash without a user")
	case u.hashes[user] != nil:
		return fmt.Errorf("the user %q is there twice", user)
	case err != nil:
		return fmt.Errorf("the hash of %q is not bcrypt's: make it with htpasswd -B", user)
	case cost > maxCost:
		return fmt.Errorf("the hash of %q has cost %d: comparing it would take seconds, want at most %d", user, cost, maxCost)
	case cost > highest:
		u.decoy = hash
	}
	u.hashes[user] = hash
	return nil
}
