package blobstore

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/durable"
)

// usedEvery is how old the modification time of a file is at least when a use raises it:
// a write each time would cost more than the use.
const usedEvery = 24 * time.Hour

func (d *Dir) now() time.Time {
	if d.Now != nil {
		return d.Now()
	}
	return time.Now()
}

// use keeps a file that no day ends from being collected, because it is in use. It
// returns ErrNotFound, and closes the file, if the collection was first. The digest is
// that of a blob.
func (d *Dir) use(f *os.File, dgst digest.Digest) error {
	info, err := f.Stat()
	if err != nil || d.ofDay(f.Name()) {
		return err
	}
	now := d.now()
	if now.Sub(info.ModTime()) < usedEvery {
		return nil
	}
	sound := dgst != "" && d.isSound(dgst, info)
	ok, err := durable.Use(f, now)
	if err != nil {
		d.unusable(f, err)
		return nil
	}
	if !ok {
		f.Close()
		return ErrNotFound
	}
	if info, err = f.Stat(); err == nil && sound {
		d.sound.Add(dgst, fileState{info})
	}
	return err
}

// unusable logs that a file cannot be kept, at most once an hour. A read-only file system
// must not end pulls.
func (d *Dir) unusable(f *os.File, err error) {
	now := time.Now().Unix()
	if last := d.warned.Load(); d.Log != nil && now-last >= 3600 && d.warned.CompareAndSwap(last, now) {
		d.Log.Warn("cannot raise the modification time of a stored file, it may be collected while it is in use", "file", filepath.Base(f.Name()), "error", withoutPath(err))
	}
}

// ofDay reports whether the file goes with its day.
func (d *Dir) ofDay(path string) bool {
	return strings.HasPrefix(path, filepath.Join(d.path, untilName)+string(filepath.Separator))
}

// Use keeps a record that no day ends, and blobs that it needs, from being collected. An
// image that is in memory is used without being read. No name is no record. What is not
// there is no error: its next reader finds out.
func (d *Dir) Use(ctx context.Context, record string, blobs []digest.Digest) (failed error) {
	if record != "" {
		_, failed = d.Record(ctx, record)
	}
	for _, dgst := range blobs {
		if err := checkDigest(dgst); err != nil {
			return err
		}
		f, err := open(ctx, d.blobPath(dgst))
		if err == nil {
			err = d.use(f, dgst)
			f.Close()
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			failed = err
		}
	}
	if errors.Is(failed, ErrNotFound) {
		return nil
	}
	return failed
}
