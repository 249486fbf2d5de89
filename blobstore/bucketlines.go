package blobstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/internal/flight"
)

const (
	// maxLines bounds an object of lines, in bytes: 100,000 names.
	maxLines = 8 << 20
	// maxAdds bounds the attempts to add lines while other servers add theirs.
	maxAdds = 32
)

// appender adds lines to objects that servers share. Lines that are added at the same
// time are written together, and no server's lines are lost. The zero appender, with
// its bucket, is ready and safe for concurrent use.
type appender struct {
	bucket *Bucket
	// keep reports whether a line that is there stays. nil: all do.
	keep func(line string) bool

	runs    flight.Calls // by key
	mu      sync.Mutex
	waiting map[string][]*addition // by key
}

// addition is a line that waits. The appender's mutex guards it.
type addition struct {
	line string
	done bool
	err  error
}

// add returns when the line is in the object durably.
func (a *appender) add(ctx context.Context, key, line string) error {
	own := &addition{line: line}
	a.mu.Lock()
	if a.waiting == nil {
		a.waiting = map[string][]*addition{}
	}
	a.waiting[key] = append(a.waiting[key], own)
	a.mu.Unlock()
	for {
		// A run that began before may have left the line to the next one.
		_, err := flight.Do(ctx, &a.runs, key, 2*callTimeout, func(ctx context.Context) (struct{}, error) {
			a.addWaiting(ctx, key)
			return struct{}{}, nil
		})
		if err != nil {
			return err
		}
		a.mu.Lock()
		done, err := own.done, own.err
		a.mu.Unlock()
		if done {
			return err
		}
	}
}

func (a *appender) addWaiting(ctx context.Context, key string) {
	a.mu.Lock()
	batch := a.waiting[key]
	delete(a.waiting, key)
	a.mu.Unlock()
	var lines []string
	for _, w := range batch {
		lines = append(lines, w.line)
	}
	err := a.write(ctx, key, lines)
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, w := range batch {
		w.done, w.err = true, err
	}
}

// write replaces the object until no other server does so at the same time.
func (a *appender) write(ctx context.Context, key string, lines []string) error {
	for range maxAdds {
		data, version, err := a.bucket.fetch(ctx, key, "", maxLines)
		condition := Condition{Version: version}
		if errors.Is(err, ErrNotFound) {
			condition, err = Condition{Absent: true}, nil
		}
		if err != nil {
			return err
		}
		text, changed := a.with(string(data), lines)
		if !changed {
			return nil
		}
		if len(text) > maxLines {
			return fmt.Errorf("%s would be larger than %d bytes: it has too many entries", key, maxLines)
		}
		_, err = a.bucket.putBytes(ctx, key, []byte(text), condition)
		if !errors.Is(err, ErrChanged) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rand.N(100 * time.Millisecond)):
		}
	}
	return fmt.Errorf("add to %s: other servers replaced it %d times meanwhile", key, maxAdds)
}

// with returns the text with the lines that it lacks.
func (a *appender) with(text string, lines []string) (string, bool) {
	var all []string
	known := map[string]bool{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		known[line] = true
		if a.keep == nil || a.keep(line) {
			all = append(all, line)
		}
	}
	changed := false
	for _, line := range lines {
		if !known[line] {
			known[line], changed = true, true
			all = append(all, line)
		}
	}
	return strings.Join(all, "\n") + "\n", changed
}

// listed is what is known of a list of names.
type listed struct {
	version  string
	modified time.Time // when this process saw the version first, and no other list's
}

// indexKey returns the key of the list of names in a directory of records.
func indexKey(dir string) string { return "index/" + dir + ".names" }

// list adds a record to the list of its directory, if it is listed.
func (b *Bucket) list(ctx context.Context, name string) error {
	if !b.listed(name) {
		return nil
	}
	i := strings.LastIndexByte(name, '/')
	if err := b.names.add(ctx, indexKey(name[:i]), name[i+1:]); err != nil {
		return fmt.Errorf("list it: %w", err)
	}
	return nil
}

// Records returns the names of the listed records right below dir, and a time that is
// another one when the list is: the zero time if there is none. If the list has not
// changed since that time, no names are read. A record may be listed before it is
// stored.
func (b *Bucket) Records(ctx context.Context, dir string, since time.Time) (names []string, modified time.Time, err error) {
	if err := checkRecordName(dir); err != nil {
		return nil, modified, err
	}
	known, not := b.listOf(dir), ""
	if !since.IsZero() && known.modified.Equal(since) {
		not = known.version
	}
	data, version, err := b.fetch(ctx, indexKey(dir), not, maxLines)
	switch {
	case errors.Is(err, ErrUnchanged):
		return nil, since, nil
	case errors.Is(err, ErrNotFound):
		return nil, modified, nil
	case err != nil:
		return nil, modified, fmt.Errorf("list records of %s: %w", dir, err)
	}
	for line := range bytes.Lines(data) {
		names = append(names, string(bytes.TrimSuffix(line, []byte("\n"))))
	}
	sort.Strings(names)
	return slices.Compact(names), b.sawList(dir, version), nil
}

func (b *Bucket) listOf(dir string) listed {
	b.mu.Lock()
	defer b.mu.Unlock()
	l, _ := b.lists.Get(dir)
	return l
}

// sawList returns when the version of the list was seen first. The times of all lists
// differ, so that one that was forgotten is not taken for unchanged.
func (b *Bucket) sawList(dir, version string) time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l, ok := b.lists.Get(dir); ok && l.version == version {
		return l.modified
	}
	now := time.Now().Round(0)
	if !now.After(b.last) {
		now = b.last.Add(1)
	}
	b.last = now
	b.lists.Add(dir, listed{version, now})
	return now
}
