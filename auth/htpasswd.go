package auth

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"
)

const (
	maxHtpasswd = 1 << 20
	lookAgain   = time.Second // how long a changed file may go unnoticed
	// settled is the age from which a file's time is believed: of two changes in
	// quick succession some file systems tell but one, and hashes have one size.
	settled = 2 * time.Second
)

// htpasswd is the file behind Passwords.
type htpasswd struct {
	path string

	mu      sync.Mutex // guards what follows
	looked  time.Time
	read    time.Time   // when the users were
	info    fs.FileInfo // of the file they were in; nil before
	problem string      // that was told last
}

// OpenHtpasswd reads users from a file as "htpasswd -B" writes it, and again
// when it changes. Hashes other than bcrypt's are an error that names the line.
func OpenHtpasswd(path string) (*Passwords, error) {
	file := &htpasswd{path: path}
	u, err := file.changed(time.Now())
	if err != nil {
		return nil, err
	}
	p := newPasswords(u)
	p.file = file
	return p, nil
}

// reload takes over the users of a file that has changed.
func (p *Passwords) reload() {
	f := p.file
	if !f.mu.TryLock() {
		return // another is at it; a slow disk must not hold up everybody
	}
	defer f.mu.Unlock()
	now := p.now()
	if now.Sub(f.looked) < lookAgain {
		return
	}
	u, err := f.changed(now)
	problem := ""
	switch {
	case err != nil:
		if problem = err.Error(); problem != f.problem {
			p.OnReloadError(err)
		}
	case u != nil:
		p.users.Store(u)
	}
	f.problem = problem
}

// changed returns the users in the file, nil if they are those read last.
func (f *htpasswd) changed(now time.Time) (*users, error) {
	f.looked = now
	info, err := os.Stat(f.path) // before reading: what changes meanwhile is seen next time
	if err != nil {
		return nil, err
	}
	if f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && f.read.Sub(info.ModTime()) > settled {
		return nil, nil
	}
	if !info.Mode().IsRegular() { // to open a pipe would wait for its writer
		return nil, fmt.Errorf("%s is not a regular file", f.path)
	}
	u, err := readHtpasswd(f.path)
	if err != nil {
		return nil, err
	}
	f.info, f.read = info, now
	return u, nil
}

func readHtpasswd(path string) (*users, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxHtpasswd+1))
	if err != nil {
		return nil, err
	}
	if len(text) > maxHtpasswd {
		return nil, fmt.Errorf("%s has more than the %d bytes that are read", path, maxHtpasswd)
	}
	u, n := newUsers(), 0
	for line := range strings.Lines(string(text)) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		user, hash, ok := strings.Cut(line, ":")
		if !ok {
			return nil, fmt.Errorf("%s:%d: want user:hash, as htpasswd -B writes it", path, n)
		}
		if err := u.add(user, []byte(hash)); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
	}
	return u, nil
}
