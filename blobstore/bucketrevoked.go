package blobstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/internal/flight"
)

const (
	revokedKey = "revoked"
	// recentRevocations is how old the answer of RecentRecord about a revocation may be.
	recentRevocations = time.Second
	// maxRevocation bounds the value of one, in bytes.
	maxRevocation = 1 << 10
	// keptDays is how long a revocation outlives its day, because clocks differ.
	keptDays = 24 * time.Hour
)

// revocations are records that each server asks for again and again, nearly always to
// find none. All of them are in one object, of a line each, and an answer costs one
// conditional request at most. Safe for concurrent use.
type revocations struct {
	bucket *Bucket
	is     func(record string) bool // nil: none is
	lines  appender
	reads  flight.Calls

	mu      sync.Mutex
	begun   int       // reads
	ended   int       // the number of the last one that has ended well
	asked   time.Time // when that began
	version string
	values  map[string]string // by record
}

func newRevocations(b *Bucket, is func(record string) bool) *revocations {
	r := &revocations{bucket: b, is: is, values: map[string]string{}}
	r.lines.bucket, r.lines.keep = b, r.lasts
	return r
}

func (r *revocations) has(record string) bool { return r.is != nil && r.is(record) }

// lasts reports whether the revocation of a line has not ended.
func (r *revocations) lasts(line string) bool {
	name, _, _ := strings.Cut(line, " ")
	day, _, ok := dayOf(name)
	if !ok {
		return true
	}
	end, err := time.Parse(dayLayout, day)
	return err != nil || r.bucket.now().Before(end.Add(keptDays))
}

// record returns the value of a revocation as it was at most so long ago, or
// ErrNotFound.
func (r *revocations) record(ctx context.Context, name string, age time.Duration) ([]byte, error) {
	if err := r.read(ctx, age); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	value, ok := r.values[name]
	if !ok {
		return nil, ErrNotFound
	}
	return []byte(value), nil
}

// read reads the object, unless a read began at most so long ago and has ended.
func (r *revocations) read(ctx context.Context, age time.Duration) error {
	r.mu.Lock()
	recent, want := age > 0 && time.Since(r.asked) <= age, r.begun+1
	r.mu.Unlock()
	for !recent {
		if err := ctx.Err(); err != nil {
			return err
		}
		// A read that began before this call says nothing: then there is another one.
		_, err := flight.Do(ctx, &r.reads, "", callTimeout, func(ctx context.Context) (struct{}, error) {
			return struct{}{}, r.readNow(ctx)
		})
		if err != nil {
			return err
		}
		r.mu.Lock()
		recent = r.ended >= want
		r.mu.Unlock()
	}
	return nil
}

func (r *revocations) readNow(ctx context.Context) error {
	r.mu.Lock()
	r.begun++
	number, began, version := r.begun, time.Now(), r.version
	r.mu.Unlock()
	data, version, err := r.bucket.fetch(ctx, revokedKey, version, maxLines)
	switch {
	case errors.Is(err, ErrUnchanged), errors.Is(err, ErrNotFound): // what was revoked stays so
		err = nil
	case err == nil:
		var values map[string]string
		if values, err = parseRevocations(string(data)); err == nil {
			r.mu.Lock()
			r.version, r.values = version, values
			r.mu.Unlock()
		}
	}
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended, r.asked = number, began // one read at a time
	return nil
}

// parseRevocations refuses what it does not understand, because a token that was revoked
// must not be served.
func parseRevocations(text string) (map[string]string, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		name, quoted, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		value, err := strconv.Unquote(quoted)
		if err != nil {
			return nil, fmt.Errorf("the object %s is damaged at %.80q; restore it, or delete it to revoke nothing", revokedKey, line)
		}
		values[name] = value
	}
	return values, nil
}

func (r *revocations) add(ctx context.Context, name string, value []byte) error {
	if len(value) > maxRevocation {
		return fmt.Errorf("the value of a revocation is larger than %d bytes", maxRevocation)
	}
	return r.lines.add(ctx, revokedKey, name+" "+strconv.Quote(string(value)))
}
