package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/internal/flight"
)

// keyFile is where the generated key is kept in the storage directory.
const keyFile = "key"

// storage is what the storage directory holds. Tokens and grants have the keys of
// one reading: files that are replaced in between would give them different ones.
type storage struct {
	store  *blobstore.Dir
	tokens *auth.Tokens
	grants *auth.Grants
}

// openStorage opens the storage directory and makes it if it does not exist.
func openStorage(cfg *config.Config, log *slog.Logger) (s storage, err error) {
	if s.store, err = blobstore.NewDir(cfg.Storage.Dir); err != nil {
		return s, fmt.Errorf("storage.dir: %w", err)
	}
	s.store.Reserve, s.store.Urgent, s.store.Log = reserveOf(cfg), auth.IsRevocation, log
	keys, err := readKeys(cfg, s.store.Staging())
	if err != nil {
		return s, err
	}
	if s.tokens, err = auth.NewTokens(auth.TokensOptions{Keys: keys, Records: s.store, Older: s.store.Older(), TTL: cfg.Tokens.TTL}); err != nil {
		return s, err
	}
	s.grants, err = auth.NewGrants(keys, s.store)
	return s, err
}

// openTokens returns the tokens in the storage directory.
func openTokens(cfg *config.Config) (*auth.Tokens, error) {
	s, err := openStorage(cfg, nil)
	return s.tokens, err
}

// reserveOf returns how much of a file system stays free. The default is less on a
// small one, where it could be all of it.
func reserveOf(cfg *config.Config) func(size int64) int64 {
	reserve := int64(cfg.Storage.Reserve)
	if cfg.Storage.Reserve != config.DefaultReserve {
		return func(int64) int64 { return reserve }
	}
	return func(size int64) int64 { return min(reserve, size/20) }
}

// readKeys returns the keys of the configuration, or the generated one.
func readKeys(cfg *config.Config, tempDir string) ([]auth.Key, error) {
	if len(cfg.Tokens.Keys) > 0 {
		return cfg.Tokens.Read()
	}
	key, err := auth.LoadOrCreateKey(filepath.Join(cfg.Storage.Dir, keyFile), tempDir)
	return []auth.Key{key}, err
}

// sweep removes the leftovers of crashed writers.
func (s storage) sweep(ctx context.Context, log *slog.Logger) {
	if err := s.store.Sweep(ctx); err != nil && ctx.Err() == nil {
		log.Warn("cannot remove leftovers of crashed writers, they keep their disk space", "error", err)
	}
}

// readiness tells whether the storage takes files and gives them back. Safe for
// concurrent use.
type readiness struct {
	store  *blobstore.Dir
	probes flight.Calls

	mu      sync.Mutex
	last    error
	checked time.Time
}

const (
	// readyTTL is how long an answer is repeated, because each look writes to the
	// disk, and no login is asked for.
	readyTTL = 2 * time.Second
	// readyTimeout is how long a look may take: a network file system whose server is
	// gone does not answer at all.
	readyTimeout = 5 * time.Second
)

// check looks once for all concurrent callers, and repeats the last answer for a
// moment. The error's text is for clients.
func (r *readiness) check(ctx context.Context) error {
	r.mu.Lock()
	last, age := r.last, time.Since(r.checked)
	r.mu.Unlock()
	if age < readyTTL {
		return last
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	// The flight has no end of its own: only one look at a time may hang.
	_, err := flight.Do(ctx, &r.probes, "", readyTimeout, func(context.Context) (struct{}, error) {
		err := r.store.Probe()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.last, r.checked = err, time.Now()
		return struct{}{}, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the storage directory does not answer within %s", readyTimeout)
	}
	return err
}
