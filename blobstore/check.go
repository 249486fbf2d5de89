package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/internal/pack"
)

// Usage is what a part of the store takes.
type Usage struct {
	Files int64
	Bytes int64 // of all files; a blob with two names counts once for each
}

// Stats is what the store has, by the first elements of the names: "until/2026-11-29",
// "records/named", "blobs", "staging".
type Stats map[string]Usage

// Stats looks at every file, which takes time in a large store.
func (d *Dir) Stats(ctx context.Context) (Stats, error) {
	all := Stats{}
	err := d.walk(ctx, func(path, rel string, e fs.DirEntry) error {
		info, err := e.Info()
		if err != nil {
			return notGone(err)
		}
		elements := strings.SplitN(filepath.ToSlash(rel), "/", 3)
		name := elements[0]
		if (name == untilName || name == "records") && len(elements) == 3 {
			name += "/" + elements[1]
		}
		u := all[name]
		all[name] = Usage{u.Files + 1, u.Bytes + info.Size()}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("look at the store: %w", err)
	}
	return all, nil
}

// Check verifies every blob and every record that has blobs, and calls report for each
// file with other bytes than it should have. With repair it sets such a file aside: what
// was in it is missing then, and the next request for the image stores it again. It takes
// as long as reading the whole store.
func (d *Dir) Check(ctx context.Context, repair bool, report func(path string, fault error)) (checked Usage, err error) {
	err = d.walk(ctx, func(path, rel string, e fs.DirEntry) error {
		if strings.HasPrefix(e.Name(), ".") || strings.HasPrefix(rel, stagingName) {
			return nil
		}
		f, err := open(ctx, path)
		if err != nil {
			return notGone(err)
		}
		defer f.Close()
		info, err := f.Stat()
		if err == nil {
			checked.Files++
			checked.Bytes += info.Size()
			err = checkFile(ctx, f, info.Size())
		}
		if err == nil || ctx.Err() != nil {
			return err
		}
		report(rel, err)
		if !repair || !errors.Is(err, ErrDamaged) {
			return nil
		}
		return notGone(os.Rename(path, filepath.Join(filepath.Dir(path), damagedPrefix+filepath.Base(path))))
	})
	if err != nil {
		return checked, fmt.Errorf("check the store: %w", err)
	}
	return checked, nil
}

// checkFile returns ErrDamaged, or why the file cannot be read.
func checkFile(ctx context.Context, f *os.File, size int64) error {
	if !strings.HasSuffix(f.Name(), recordSuffix) {
		algorithm := filepath.Base(filepath.Dir(filepath.Dir(f.Name())))
		d := digest.NewDigestFromEncoded(digest.Algorithm(algorithm), filepath.Base(f.Name()))
		if checkDigest(d) != nil {
			return nil // not ours
		}
		return asDamaged(copyVerified(ctx, io.Discard, io.NewSectionReader(f, 0, math.MaxInt64), d))
	}
	p, ok, err := pack.Read(f, size)
	if errors.Is(err, pack.ErrDamaged) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err != nil || !ok {
		return err
	}
	for _, d := range p.Parts() {
		data, _, err := p.Part(d)
		if err != nil {
			return err
		}
		if checkDigest(d) != nil || d.Algorithm().FromBytes(data) != d {
			return fmt.Errorf("%w: the part %s has other bytes", ErrDamaged, d)
		}
	}
	return nil
}

func asDamaged(err error) error {
	if errors.Is(err, ErrMismatch) {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return err
}

// walk calls f with each file of the store.
func (d *Dir) walk(ctx context.Context, f func(path, rel string, e fs.DirEntry) error) error {
	for _, top := range tops {
		err := filepath.WalkDir(filepath.Join(d.path, top), func(path string, e fs.DirEntry, err error) error {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil || e.IsDir() || strings.HasPrefix(e.Name(), durable.TempPrefix) {
				return notGone(err)
			}
			rel, err := filepath.Rel(d.path, path)
			if err != nil {
				return err
			}
			return f(path, rel, e)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
