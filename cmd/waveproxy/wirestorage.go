package main

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"path/filepath"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/registry"
)

// keyFile is where the generated key is kept in the storage directory.
const keyFile = "key"

// store keeps what the server promises.
type store interface {
	blobstore.Packs
	auth.Records
	registry.Records
}

// storage is what the storage directory or the bucket holds. Tokens and grants have the
// keys of one reading: files that are replaced in between would give them different
// ones.
type storage struct {
	store  store
	local  *blobstore.Dir    // has temporary files, and without a bucket all
	bucket *blobstore.Bucket // nil: there is none
	probe  func() error      // tells whether it works
	tokens *auth.Tokens
	grants *auth.Grants
}

// openStorage opens the storage directory, and makes it if it does not exist, and the
// bucket.
func openStorage(cfg *config.Config, log *slog.Logger) (s storage, err error) {
	if s.local, err = blobstore.NewDir(cfg.Storage.Dir); err != nil {
		return s, fmt.Errorf("storage.dir: %w", err)
	}
	s.local.Reserve, s.local.Urgent, s.local.Log = reserveOf(cfg), auth.IsRevocation, log
	s.store, s.probe = s.local, s.local.Probe
	older := s.local.Older()
	if cfg.Storage.InBucket() {
		if s.bucket, err = openBucket(cfg, s.local, log); err != nil {
			return s, err
		}
		s.store, s.probe, older = s.bucket, bucketProbe(s.bucket, s.local), false
	}
	keys, err := readKeys(cfg, s.local.Staging())
	if err != nil {
		return s, err
	}
	if s.tokens, err = auth.NewTokens(auth.TokensOptions{Keys: keys, Records: s.store, Older: older, TTL: cfg.Tokens.TTL}); err != nil {
		return s, err
	}
	s.grants, err = auth.NewGrants(keys, s.store)
	return s, err
}

// openTokens returns the tokens in the storage.
func openTokens(cfg *config.Config) (*auth.Tokens, error) {
	s, err := openStorage(cfg, nil)
	return s.tokens, err
}

// renewKeys puts the keys of a configuration into force.
func (s storage) renewKeys(cfg *config.Config) error {
	keys, err := readKeys(cfg, s.local.Staging())
	if err != nil {
		return err
	}
	if err := s.tokens.SetKeys(keys); err != nil {
		return err
	}
	return s.grants.SetKeys(keys)
}

// storageOf names the storage for people.
func storageOf(cfg *config.Config) string {
	if cfg.Storage.InBucket() {
		return "s3://" + path.Join(cfg.Storage.S3.Bucket, cfg.Storage.S3.Prefix)
	}
	return cfg.Storage.Dir
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
	if err := s.local.Sweep(ctx); err != nil && ctx.Err() == nil {
		log.Warn("cannot remove leftovers of crashed writers, they keep their disk space", "error", err)
	}
}
