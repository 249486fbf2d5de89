package blobstore

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"
)

// openFormat reads the version of the store, or writes it. Two servers may do so at once.
func (b *Bucket) openFormat(ctx context.Context) error {
	data, _, err := b.fetch(ctx, formatName, "", maxRecord)
	if errors.Is(err, ErrNotFound) {
		if err := b.checkConditions(ctx); err != nil {
			return err
		}
		_, err = b.putBytes(ctx, formatName, fmt.Appendf(nil, "waveproxy store %d\n", formatVersion), Condition{Absent: true})
		if err == nil || errors.Is(err, ErrChanged) {
			data, _, err = b.fetch(ctx, formatName, "", maxRecord)
		}
	}
	if err != nil {
		return err
	}
	_, err = parseFormat("the bucket", formatName, data)
	return err
}

// errUnconditional says that the storage is of no use to servers that share it.
var errUnconditional = errors.New("the object storage ignores the conditions of writes (If-None-Match, If-Match), so servers that share the bucket would lose each other's revocations; use a storage, or a newer version of it, that keeps them")

// checkConditions returns an error unless the storage keeps the conditions of writes.
// Some that call themselves compatible ignore them.
func (b *Bucket) checkConditions(ctx context.Context) error {
	key := stagingName + "/probe-" + rand.Text()
	defer b.remove(ctx, key)
	first, err := b.putBytes(ctx, key, []byte("first"), Condition{Absent: true})
	if err != nil {
		return err
	}
	if _, err := b.putBytes(ctx, key, []byte("second"), Condition{Version: first}); err != nil {
		return err
	}
	for _, never := range []Condition{{Absent: true}, {Version: first}} {
		_, err := b.putBytes(ctx, key, []byte("third"), never)
		if err == nil {
			return errUnconditional
		}
		if !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return nil
}

// Probe writes, reads and removes an object. Its error says what is wrong with the
// bucket.
func (b *Bucket) Probe() error {
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	want := []byte(rand.Text())
	key := stagingName + "/probe-" + string(want)
	if _, err := b.putBytes(ctx, key, want, Condition{}); err != nil {
		return fmt.Errorf("the bucket cannot be written: %w", err)
	}
	if found, _, err := b.fetch(ctx, key, "", maxRecord); err != nil || !bytes.Equal(found, want) {
		b.remove(ctx, key)
		return fmt.Errorf("the bucket does not give back what was written: read %d of %d bytes: %w", len(found), len(want), orOtherBytes(err))
	}
	if err := b.objects.Delete(ctx, key); err != nil {
		return fmt.Errorf("the bucket does not let objects be removed: %w", err)
	}
	return nil
}

func orOtherBytes(err error) error {
	if err == nil {
		return errors.New("other bytes")
	}
	return err
}

// remove removes an object that nothing needs. If that fails, the object stays, which
// costs its storage and does no harm.
func (b *Bucket) remove(ctx context.Context, key string) {
	_ = within(ctx, callTimeout, func(ctx context.Context) error { return b.objects.Delete(ctx, key) })
}

// removals is how many objects are removed at a time.
const removals = 8

// Use does nothing: in a bucket, only days are collected.
func (b *Bucket) Use(context.Context, string, []digest.Digest) error { return nil }

// Collect removes all days that have ended, and returns how many objects that were.
// Several servers may do so at once, and any of them may be killed: the next call goes
// on. What no day ends stays.
func (b *Bucket) Collect(ctx context.Context) (done Collected, err error) {
	now, err := b.earliestNow(ctx)
	if err != nil {
		return done, fmt.Errorf("collect: %w", err)
	}
	var ended []string
	err = b.objects.List(ctx, untilName+"/", true, func(dirs []string) error {
		for _, dir := range dirs {
			day, _, _ := dayOf(dir)
			if begin, err := time.Parse(dayLayout, day); err == nil && !now.Before(begin.Add(dayGrace)) {
				ended = append(ended, dir)
			}
		}
		return nil
	})
	for _, dir := range ended {
		if err == nil {
			err = b.removeAll(ctx, dir, &done.Files)
		}
		if err == nil {
			done.Days++
		}
	}
	if err != nil {
		return done, fmt.Errorf("collect: %w", err)
	}
	return done, nil
}

// earliestNow returns the earlier time of this server's clock and the storage's. A
// clock that runs ahead would remove what is still promised.
func (b *Bucket) earliestNow(ctx context.Context) (time.Time, error) {
	now := b.now()
	key := stagingName + "/probe-" + rand.Text()
	defer b.remove(ctx, key)
	if _, err := b.putBytes(ctx, key, []byte("clock"), Condition{}); err != nil {
		return now, err
	}
	o, err := b.get(ctx, key, Selection{})
	if err != nil {
		return now, err
	}
	o.Body.Close()
	if o.Modified.Before(now) {
		now = o.Modified
	}
	return now, nil
}

func (b *Bucket) removeAll(ctx context.Context, prefix string, removed *int64) error {
	return b.objects.List(ctx, prefix, false, func(keys []string) error {
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(removals)
		for _, key := range keys {
			g.Go(func() error {
				return within(ctx, callTimeout, func(ctx context.Context) error { return b.objects.Delete(ctx, key) })
			})
		}
		err := g.Wait()
		if err == nil {
			*removed += int64(len(keys))
		}
		return err
	})
}
