package main

import (
	"context"
	"crypto/sha256"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/config"
)

// renewal is a part of the server that is made anew when its section of the
// configuration or one of its files has changed.
type renewal struct {
	name  string // for the log
	files func(config.Files) []string
	apply func(*config.Config) error // changes nothing if it fails
}

// renewals are all of them. Reloading and looking may be called concurrently.
type renewals struct {
	log   *slog.Logger
	start *config.Config

	mu    sync.Mutex
	cfg   *config.Config // with what was renewed, or was to be
	all   []renewal
	watch fileWatch
}

func newRenewals(cfg *config.Config, log *slog.Logger) *renewals {
	return &renewals{start: cfg, cfg: cfg, log: log, watch: fileWatch{}}
}

// add takes a part that was made of the files as they are now.
func (r *renewals) add(name string, files func(config.Files) []string, apply func(*config.Config) error) {
	r.all = append(r.all, renewal{name, files, apply})
	r.watch.changed(files(r.cfg.Files()), time.Now())
}

// reload makes all parts anew from a configuration. What fails stays as it is, and is
// tried again when one of its files changes.
func (r *renewals) reload(cfg *config.Config) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg = r.start.WithRenewed(cfg)
	for _, part := range r.all {
		r.watch.changed(part.files(r.cfg.Files()), time.Now()) // read below
		r.renew(part, nil)
	}
}

// follow looks for changed files until ctx ends. It polls, because a mounted file, or
// one behind a link that Kubernetes swaps, changes without an event at its name.
func (r *renewals) follow(ctx context.Context) {
	tick := time.NewTicker(lookInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			r.look(time.Now())
		}
	}
}

// look makes the parts anew whose files have changed.
func (r *renewals) look(now time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	files := r.cfg.Files()
	var all []string
	for _, part := range r.all {
		all = append(all, part.files(files)...)
	}
	changed := r.watch.changed(all, now)
	for _, part := range r.all {
		var own []string
		for _, path := range part.files(files) {
			if slices.Contains(changed, path) {
				own = append(own, path)
			}
		}
		if len(own) > 0 {
			r.renew(part, own)
		}
	}
}

func (r *renewals) renew(part renewal, files []string) {
	if err := part.apply(r.cfg); err != nil {
		for _, problem := range strings.Split(err.Error(), "\n") {
			r.log.Error("reload failed, keeping the previous "+part.name, "problem", problem)
		}
		return
	}
	if len(files) > 0 {
		r.log.Info("files have changed, renewed the "+part.name, "files", files)
	}
}

// fileWatch finds out which files have other contents than before. Not safe for
// concurrent use.
type fileWatch map[string]fileState

type fileState struct {
	info    fs.FileInfo // nil if the file cannot be read
	read    time.Time
	sum     [sha256.Size]byte
	problem string
}

const (
	// maxWatched is how much of a file is compared.
	maxWatched = 16 << 20
	// mtimeTrustAge is how old a file's time must have been at the reading for an equal
	// time to mean an equal file. Of two changes in quick succession some file systems
	// show only one.
	mtimeTrustAge = 2 * time.Second
)

// changed returns the paths whose files have changed since the last call with them. A
// path that is new to it has not.
func (w fileWatch) changed(paths []string, now time.Time) []string {
	var all []string
	for _, path := range paths {
		before, known := w[path]
		after := before.next(path, now)
		w[path] = after
		if known && (after.sum != before.sum || after.problem != before.problem) && !slices.Contains(all, path) {
			all = append(all, path)
		}
	}
	return all
}

// next returns the state of the file now. It follows links.
func (s fileState) next(path string, now time.Time) fileState {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{problem: err.Error()}
	}
	if s.info != nil && os.SameFile(s.info, info) && s.info.Size() == info.Size() && s.info.ModTime().Equal(info.ModTime()) &&
		s.read.Sub(info.ModTime()) > mtimeTrustAge {
		return s
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return fileState{problem: "not a regular file"}
	}
	f, err := os.Open(path)
	if err != nil {
		return fileState{problem: err.Error()}
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, io.LimitReader(f, maxWatched)); err != nil {
		return fileState{problem: err.Error()}
	}
	n := fileState{info: info, read: now}
	sum.Sum(n.sum[:0])
	return n
}

// keychainInForce is a keychain that can be replaced.
type keychainInForce struct{ atomic.Pointer[auth.Keychain] }

func (k *keychainInForce) Credential(ctx context.Context, t auth.Target) (auth.Credential, error) {
	return (*k.Load()).Credential(ctx, t)
}

// bearerInForce is a bearer that can be replaced.
type bearerInForce struct{ atomic.Pointer[auth.Bearer] }

func (b *bearerInForce) Identity(ctx context.Context, token string) (string, error) {
	return (*b.Load()).Identity(ctx, token)
}
