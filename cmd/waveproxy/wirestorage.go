package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
func openStorage(cfg *config.Config) (s storage, err error) {
	if s.store, err = blobstore.NewDir(cfg.Storage.Dir); err != nil {
		return s, fmt.Errorf("storage.dir: %w", err)
	}
	keys, err := readKeys(cfg)
	if err != nil {
		return s, err
	}
	if s.tokens, err = auth.NewTokens(auth.TokensOptions{Keys: keys, Records: s.store, TTL: cfg.Tokens.TTL}); err != nil {
		return s, err
	}
	s.grants, err = auth.NewGrants(keys, s.store)
	return s, err
}

// openTokens returns the tokens in the storage directory.
func openTokens(cfg *config.Config) (*auth.Tokens, error) {
	s, err := openStorage(cfg)
	return s.tokens, err
}

// readKeys returns the keys of the configuration, or the generated one.
func readKeys(cfg *config.Config) ([]auth.Key, error) {
	if len(cfg.Tokens.Keys) > 0 {
		return cfg.Tokens.Read()
	}
	key, err := auth.LoadOrCreateKey(filepath.Join(cfg.Storage.Dir, keyFile))
	return []auth.Key{key}, err
}

// sweep removes the leftovers of crashed writers.
func (s storage) sweep(ctx context.Context, log *slog.Logger) {
	if err := s.store.Sweep(ctx); err != nil && ctx.Err() == nil {
		log.Warn("cannot remove leftovers of crashed writers, they keep their disk space", "error", err)
	}
}

// ready reads a record that does not exist, which is an error other than
// fs.ErrNotExist only when the storage cannot be read.
func (s storage) ready(ctx context.Context) error {
	if _, err := s.store.Record(ctx, "health/ready"); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return errors.New("the storage directory cannot be read")
	}
	return nil
}
