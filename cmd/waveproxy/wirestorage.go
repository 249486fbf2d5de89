package main

import (
	"context"
	"fmt"
	"log/slog"
	"path/filepath"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/config"
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

// renewKeys puts the keys of a configuration into force.
func (s storage) renewKeys(cfg *config.Config) error {
	keys, err := readKeys(cfg, s.store.Staging())
	if err != nil {
		return err
	}
	if err := s.tokens.SetKeys(keys); err != nil {
		return err
	}
	return s.grants.SetKeys(keys)
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
