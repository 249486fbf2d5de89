package auth

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/internal/pack"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// memory is Records that counts, can fail, and can hold readers back.
type memory struct {
	mu     sync.Mutex
	values map[string][]byte
	reads  []string
	writes []string
	fail   error
	gate   chan struct{} // when not nil, reads wait for it to close or ctx to end
}

func newMemory() *memory { return &memory{values: map[string][]byte{}} }

func (m *memory) Record(ctx context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	m.reads = append(m.reads, name)
	gate := m.gate
	m.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	data, ok := m.values[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return data, nil
}

func (m *memory) PutRecord(_ context.Context, name string, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes = append(m.writes, name)
	if m.fail != nil {
		return m.fail
	}
	m.values[name] = bytes.Clone(data)
	return nil
}

// PutPack writes nothing if the value is there, as stores do.
func (m *memory) PutPack(ctx context.Context, name string, data []byte, _ []pack.Part) error {
	m.mu.Lock()
	same := bytes.Equal(m.values[name], data)
	m.mu.Unlock()
	if same {
		return nil
	}
	return m.PutRecord(ctx, name, data)
}

// withoutDay returns the part of a record's name behind "until/2026-11-29/".
func withoutDay(name string) string {
	if rest, ok := strings.CutPrefix(name, "until/"); ok {
		_, name, _ = strings.Cut(rest, "/")
	}
	return name
}

// calls returns the folders of all records read and written, and forgets them.
func (m *memory) calls() (reads, writes []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	folders := func(names []string) (f []string) {
		for _, n := range names {
			folder, _, _ := strings.Cut(withoutDay(n), "/")
			f = append(f, folder)
		}
		return f
	}
	reads, writes = folders(m.reads), folders(m.writes)
	m.reads, m.writes = nil, nil
	return reads, writes
}

// names returns the stored names under a folder.
func (m *memory) names(folder string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Sorted(maps.Keys(m.values)), func(n string) bool {
		return !strings.HasPrefix(withoutDay(n), folder+"/")
	})
}

type clock struct{ t time.Time }

func (c *clock) now() time.Time          { return c.t }
func (c *clock) advance(d time.Duration) { c.t = c.t.Add(d) }

// noon is half an hour into a window of an 8 hour lifetime.
func noon() *clock { return &clock{time.Date(2026, 11, 25, 11, 30, 0, 0, time.UTC)} }

// testKey makes the key of the 32 bytes first, first+1, ...
func testKey(t testing.TB, first byte) Key {
	t.Helper()
	secret := make([]byte, secretSize)
	for i := range secret {
		secret[i] = first + byte(i)
	}
	k, err := ParseKey([]byte(base64.StdEncoding.EncodeToString(secret)))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func newTokens(t testing.TB, r Records, c *clock, keys ...Key) *Tokens {
	t.Helper()
	if keys == nil {
		keys = []Key{testKey(t, 0)}
	}
	tokens, err := NewTokens(TokensOptions{Keys: keys, Records: r, Now: c.now})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

func testGrant() Grant {
	layer := digest.Digest("sha256:" + strings.Repeat("c", 64))
	return Grant{
		Image: "docker.io/library/ubuntu",
		Tag:   "24.04",
		Base:  digest.Digest("sha256:" + strings.Repeat("a", 64)),
		Root: ocispec.Descriptor{
			MediaType: ocispec.MediaTypeImageIndex,
			Digest:    digest.Digest("sha256:" + strings.Repeat("b", 64)),
			Size:      1234,
		},
		Recipe: augment.Recipe{
			Layers: []augment.Layer{{Digest: layer, Size: 42, DiffID: digest.Digest("sha256:" + strings.Repeat("d", 64))}},
			Env:    []string{"A=<1>"},
		},
		Platforms: []string{"linux/amd64"},
		Injected:  []digest.Digest{layer},
	}
}

// mint mints the test grant for ttl.
func mint(t testing.TB, tokens *Tokens, ttl time.Duration) Token {
	t.Helper()
	token, _, err := tokens.Mint(t.Context(), testGrant(), ttl)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// refused checks that err is want and does not show the token.
func refused(t testing.TB, err, want error, token Token) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %v", err, want)
	}
	if err != nil && len(token) > 8 && strings.Contains(strings.ToLower(err.Error()), strings.ToLower(string(token))) {
		t.Errorf("error %q shows the token", err)
	}
}
