package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/recipes"
)

const (
	// collectEvery is how often a server collects. A lock lets one of several do it.
	collectEvery = time.Hour
	// maxJump is how long after the last collection a clock is believed at once. A clock
	// that jumped further may be wrong, and would make the server delete what other
	// servers still promise. It is believed after clockTrust, so that there is time to set
	// it right.
	maxJump    = 48 * time.Hour
	clockTrust = time.Hour
)

// collection collects the storage while a server runs.
type collection struct {
	store   *blobstore.Dir
	layers  *assemble.Layers
	book    *recipes.Book
	options blobstore.CollectOptions
	log     *slog.Logger
	began   time.Time
	// collected gets what each collection has deleted.
	collected func(files, bytes int64)
}

// collection returns the collection of the server's storage.
func (p parts) collection(collected func(files, bytes int64)) collection {
	return collection{
		store: p.storage.local, layers: p.layers, book: p.book, log: p.log, began: time.Now(), collected: collected,
		options: blobstore.CollectOptions{Retention: p.cfg.Storage.Retention, TokenTTL: p.cfg.Tokens.TTL, Rest: restAsLong},
	}
}

// run collects until ctx ends. Servers that start together do not begin together.
func (c collection) run(ctx context.Context) { eachHour(ctx, c.once) }

// eachHour calls collect again and again until ctx ends.
func eachHour(ctx context.Context, collect func(context.Context)) {
	wait := time.Duration(rand.Int64N(int64(collectEvery/4))) + time.Minute
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		collect(ctx)
		wait = collectEvery
	}
}

// once reports what is in use and collects the rest.
func (c collection) once(ctx context.Context) {
	err := errors.Join(c.layers.Use(ctx, c.store), c.store.Use(ctx, "", c.book.Layers()))
	if err == nil && !c.believed(time.Now()) {
		c.log.WarnContext(ctx, "the last collection of the storage was long ago, waiting an hour before the clock is believed")
		return
	}
	begun := time.Now()
	var done blobstore.Collected
	if err == nil {
		done, err = c.store.Collect(ctx, c.options)
	}
	if errors.Is(err, blobstore.ErrCollecting) {
		return
	}
	c.collected(done.Files, done.Bytes)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.log.WarnContext(ctx, "cannot collect the storage, what has expired keeps its disk space", "error", err)
	default:
		if done.Files > 0 {
			c.log.InfoContext(ctx, "storage collected", "days", done.Days, "files", done.Files, "bytes", done.Bytes, "took", time.Since(begun).Round(time.Millisecond))
		}
	}
}

// believed reports whether the clock agrees with the last collection, or has run for long
// enough.
func (c collection) believed(now time.Time) bool {
	last, err := c.store.LastCollected()
	return err == nil && (last.IsZero() || now.Sub(last) < maxJump) || now.Sub(c.began) >= clockTrust
}

// restAsLong rests for as long as the work took, so that a collection takes half of one
// processor and of the disk's time at most.
func restAsLong(ctx context.Context, worked time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(min(worked, time.Second)):
		return nil
	}
}

// storageDir opens the storage of a configuration, which must exist.
func storageDir(path string) (*blobstore.Dir, error) {
	if _, err := os.Stat(filepath.Join(path, "blobs")); err != nil {
		return nil, fmt.Errorf("storage.dir: no storage of waveproxy: %w", err)
	}
	store, err := blobstore.NewDir(path)
	if err != nil {
		return nil, fmt.Errorf("storage.dir: %w", err)
	}
	return store, nil
}
