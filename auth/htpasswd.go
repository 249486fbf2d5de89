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
	maxHtpasswd  = 1 << 20     // bytes
	recheckAfter = time.Second // how long a changed file may go unnoticed
	// mtimeTrustAge is how old a file's time must have been when the file was read
	// for an equal time to mean an equal file. Of two changes in quick succession
	// some file systems show only one, and all hashes have the same size.
	mtimeTrustAge = 2 * time.Second
)

// htpasswd is the file behind Passwords.
type htpasswd struct {
	path string

	mu      sync.Mutex  // guards the fields below
	looked  time.Time   // when the file was last checked
	read    time.Time   // when the users were last read
	info    fs.FileInfo // of the file at that time; nil before
	problem string      // the last one reported; empty if the file is good
}

// OpenHtpasswd returns the users of a file as "htpasswd -B" writes it. The file is
// read again when it changes. A hash that is not bcrypt's is an error that names
// the line.
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

// reload replaces the users if the file has changed. If the file cannot be used it
// reports the problem, keeping the previous users.
func (p *Passwords) reload() {
	f := p.file
	if !f.mu.TryLock() {
		return // another login checks the file; a slow disk must not hold up all of them
	}
	defer f.mu.Unlock()
	now := p.now()
	if now.Sub(f.looked) < recheckAfter {
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

// changed returns the users in the file, or nil if the file is the one read last.
func (f *htpasswd) changed(now time.Time) (*users, error) {
	f.looked = now
	info, err := os.Stat(f.path) // before reading, so that a change meanwhile is seen next time
	if err != nil {
		return nil, err
	}
	if f.info != nil && os.SameFile(f.info, info) && f.info.Size() == info.Size() &&
		f.info.ModTime().Equal(info.ModTime()) && f.read.Sub(info.ModTime()) > mtimeTrustAge {
		return nil, nil
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
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
		return nil, fmt.Errorf("%s has more than %d bytes, the most that is read", path, maxHtpasswd)
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
