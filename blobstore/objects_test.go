package blobstore_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/blobstore"
)

// fakeObjects is an object storage in memory that can go wrong. Package s3 has the tests
// on a real one.
type fakeObjects struct {
	mu      sync.Mutex
	objects map[string][]byte
	times   map[string]time.Time
	version int
	of      map[string]string // versions
	calls   []string

	takes         time.Duration                           // what a Get or Put takes
	unconditional bool                                    // ignores conditions
	fail          func(call string) error                 // nil: never
	body          func(key string, r io.Reader) io.Reader // nil: as it is
}

func newFakeObjects() *fakeObjects {
	return &fakeObjects{objects: map[string][]byte{}, times: map[string]time.Time{}, of: map[string]string{}}
}

func (f *fakeObjects) call(ctx context.Context, call string) error {
	f.calls = append(f.calls, call)
	if f.fail != nil {
		if err := f.fail(call); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// took returns the calls since it was called last.
func (f *fakeObjects) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fakeObjects) Get(ctx context.Context, key string, s blobstore.Selection) (o blobstore.Object, err error) {
	time.Sleep(f.takes)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call(ctx, "get "+key); err != nil {
		return o, err
	}
	data, ok := f.objects[key]
	version := f.of[key]
	switch {
	case !ok:
		return o, blobstore.ErrNotFound
	case s.Not == version && s.Not != "":
		return o, blobstore.ErrUnchanged
	case s.Only != "" && s.Only != version:
		return o, blobstore.ErrChanged
	}
	part := data[min(s.Offset, int64(len(data))):]
	if s.Length > 0 {
		part = part[:min(s.Length, int64(len(part)))]
	}
	var r io.Reader = bytes.NewReader(part)
	if f.body != nil {
		r = f.body(key, r)
	}
	return blobstore.Object{Body: &endingBody{ctx, r}, Size: int64(len(data)), Version: version, Modified: f.times[key]}, nil
}

// endingBody ends with its context, as the body of an answer does.
type endingBody struct {
	ctx context.Context
	r   io.Reader
}

func (e *endingBody) Read(p []byte) (int, error) {
	if _, ok := e.r.(silent); ok {
		<-e.ctx.Done()
	}
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

func (e *endingBody) Close() error { return nil }

// silent never sends anything.
type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func (f *fakeObjects) Put(ctx context.Context, key string, r io.ReaderAt, size int64, c blobstore.Condition) (string, error) {
	data := make([]byte, size)
	if _, err := r.ReadAt(data, 0); err != nil && err != io.EOF {
		return "", err
	}
	time.Sleep(f.takes)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call(ctx, "put "+key); err != nil {
		return "", err
	}
	_, there := f.objects[key]
	if !f.unconditional && (c.Absent && there || c.Version != "" && c.Version != f.of[key]) {
		return "", fmt.Errorf("fake: %w", blobstore.ErrChanged)
	}
	return f.store(key, data), nil
}

func (f *fakeObjects) store(key string, data []byte) string {
	f.version++
	f.objects[key], f.of[key], f.times[key] = data, fmt.Sprint("v", f.version), time.Now()
	return f.of[key]
}

func (f *fakeObjects) Copy(ctx context.Context, from, to string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call(ctx, "copy "+from); err != nil {
		return "", err
	}
	data, ok := f.objects[from]
	if !ok {
		return "", blobstore.ErrNotFound
	}
	return f.store(to, data), nil
}

func (f *fakeObjects) Delete(ctx context.Context, key string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.call(ctx, "delete "+key); err != nil {
		return err
	}
	delete(f.objects, key)
	return nil
}

func (f *fakeObjects) List(ctx context.Context, prefix string, dirs bool, each func([]string) error) error {
	f.mu.Lock()
	err := f.call(ctx, "list "+prefix)
	var keys []string
	for key := range f.objects {
		rest, ok := strings.CutPrefix(key, prefix)
		if dir, _, below := strings.Cut(rest, "/"); dirs && below {
			key = prefix + dir + "/"
		}
		if ok {
			keys = append(keys, key)
		}
	}
	f.mu.Unlock()
	if err != nil {
		return err
	}
	slices.Sort(keys)
	for part := range slices.Chunk(slices.Compact(keys), 2) {
		if err := each(part); err != nil {
			return err
		}
	}
	return nil
}

func (f *fakeObjects) URL(_ context.Context, key string, _ time.Duration) (string, error) {
	return "https://bucket.example.org/" + key + "?signed", nil
}

func (f *fakeObjects) keys() (keys []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for key := range f.objects {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
