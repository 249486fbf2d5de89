package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/pack"
)

// Packs is a store that keeps records with their blobs.
type Packs interface {
	blobstore.Packs
	Record(ctx context.Context, name string) ([]byte, error)
	PutRecord(ctx context.Context, name string, data []byte) error
	Records(ctx context.Context, dir string, since time.Time) (names []string, modified time.Time, err error)
}

// Server opens a store as one more server does that shares it.
type Server func(t *testing.T) Packs

// Listed reports whether Records of a store must list a record, in RunPacks.
func Listed(record string) bool { return strings.HasPrefix(record, "named/") }

// RunPacks tests stores that servers share. open returns a new and empty one for each
// test.
func RunPacks(t *testing.T, open func(t *testing.T) Server) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Server)
	}{
		{"PutPack", testPutPack},
		{"Replaced", testPackReplaced},
		{"Mismatch", testPackMismatch},
		{"Names", testPackNames},
		{"AtOnce", testPacksAtOnce},
		{"SharedBlob", testSharedBlob},
		{"Listed", testListed},
		{"ListedAtOnce", testListedAtOnce},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

const grantRecord = "until/2126-11-29/grants/0a1b"

// parts are those of an ordinary image, and one that is too large for a pack.
func parts() (blobs [][]byte, list []pack.Part) {
	blobs = [][]byte{Bytes(800, "manifest"), Bytes(3000, "script"), {}, Bytes(pack.MaxPart+1, "tool"), Bytes(700_000, "large tool")}
	for _, b := range blobs {
		list = append(list, pack.Of(digest.FromBytes(b), b))
	}
	return blobs, list
}

func testPutPack(t *testing.T, server Server) {
	one, two := server(t), server(t)
	blobs, list := parts()
	for _, name := range []string{grantRecord, "named/a/images/sha256-0a"} {
		if _, err := two.Record(t.Context(), name); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%s is there: %v", name, err)
		}
		lacks(t, two.In(name), digest.FromBytes(blobs[1]))
		for range 2 {
			if err := one.PutPack(t.Context(), name, []byte("the grant"), list); err != nil {
				t.Fatal(err)
			}
		}
		for _, s := range []Packs{one, two, server(t)} {
			if record, err := s.Record(t.Context(), name); err != nil || string(record) != "the grant" {
				t.Errorf("%s: %q, %v", name, record, err)
			}
			for _, blob := range blobs {
				holds(t, s.In(name), digest.FromBytes(blob), blob)
				if err := s.In(name).Verify(t.Context(), digest.FromBytes(blob)); err != nil {
					t.Error(err)
				}
			}
			lacks(t, s.In(name), digest.FromString("absent"))
			lacks(t, s.In(name+"1"), digest.FromBytes(blobs[1]))
			lacks(t, s, digest.FromBytes(blobs[1])) // a part is no blob of all records
		}
	}
	more := Bytes(500, "more")
	if err := one.In(grantRecord).Put(t.Context(), digest.FromBytes(more), bytes.NewReader(more)); err != nil {
		t.Fatal(err)
	}
	holds(t, two.In(grantRecord), digest.FromBytes(more), more)
	lacks(t, two, digest.FromBytes(more))
}

// A server that has read a record sees the next one.
func testPackReplaced(t *testing.T, server Server) {
	one, two := server(t), server(t)
	_, list := parts()
	for i := range 4 {
		want := fmt.Sprint("grant ", i)
		if err := one.PutPack(t.Context(), grantRecord, []byte(want), list[:i]); err != nil {
			t.Fatal(err)
		}
		for _, s := range []Packs{one, two} {
			if got, err := s.Record(t.Context(), grantRecord); err != nil || string(got) != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
	}
	if err := two.PutRecord(t.Context(), grantRecord, []byte("no pack")); err != nil {
		t.Fatal(err)
	}
	if got, err := one.Record(t.Context(), grantRecord); err != nil || string(got) != "no pack" {
		t.Errorf("%q, %v", got, err)
	}
}

func testPackMismatch(t *testing.T, server Server) {
	s := server(t)
	for _, size := range []int{100, 100_000} {
		wrong := pack.Of(digest.FromString("other"), Bytes(size, "wrong"))
		if err := s.PutPack(t.Context(), grantRecord, []byte("r"), []pack.Part{wrong}); !errors.Is(err, blobstore.ErrMismatch) {
			t.Errorf("%d bytes: %v, want ErrMismatch", size, err)
		}
		broken := errors.New("broken")
		wrong.Open = func(context.Context) (io.ReadCloser, error) { return nil, broken }
		if err := s.PutPack(t.Context(), grantRecord, []byte("r"), []pack.Part{wrong}); !errors.Is(err, broken) {
			t.Errorf("%d bytes: %v, want the part's error", size, err)
		}
	}
	if _, err := s.Record(t.Context(), grantRecord); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("the record is there: %v", err)
	}
}

func testPackNames(t *testing.T, server Server) {
	s := server(t)
	for _, name := range []string{"until/grants/0a1b", "until/2026-13-01/grants", "until/2026-11-29", "until/../grants", "../x", ""} {
		if err := s.PutPack(t.Context(), name, nil, nil); err == nil {
			t.Errorf("%q is a name", name)
		}
		if _, err := s.In(name).Open(t.Context(), digest.FromString("x")); err == nil || name != "" && errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%q: %v, want an error about the name", name, err)
		}
	}
	if _, _, err := s.Records(t.Context(), "../x", time.Time{}); err == nil {
		t.Error("a path outside is listed")
	}
}

// Writers of one record leave one whole record.
func testPacksAtOnce(t *testing.T, server Server) {
	servers := []Packs{server(t), server(t)}
	blobs, list := parts()
	each(12, func(i int) {
		s := servers[i%2]
		if err := s.PutPack(t.Context(), grantRecord, []byte(strings.Repeat("x", 1+i)), list); err != nil {
			t.Error(err)
		}
		for _, blob := range blobs {
			holds(t, s.In(grantRecord), digest.FromBytes(blob), blob)
		}
		if record, err := s.Record(t.Context(), grantRecord); err != nil || strings.Trim(string(record), "x") != "" {
			t.Errorf("%q, %v", record, err)
		}
	})
}

// A large blob that all share is not read again for a record.
func testSharedBlob(t *testing.T, server Server) {
	s := server(t)
	blobs, list := parts()
	large, part := blobs[4], list[4]
	put(t, s, large)
	part.Open = func(context.Context) (io.ReadCloser, error) { return nil, errors.New("the part was read") }
	if err := s.PutPack(t.Context(), grantRecord, nil, []pack.Part{part}); err != nil {
		t.Fatal(err)
	}
	holds(t, server(t).In(grantRecord), part.Digest, large)
}

func testListed(t *testing.T, server Server) {
	one, two := server(t), server(t)
	_, list := parts()
	dir := "named/a/images"
	if names, modified, err := two.Records(t.Context(), dir, time.Time{}); len(names) != 0 || !modified.IsZero() || err != nil {
		t.Errorf("nothing is stored: %q, %s, %v", names, modified, err)
	}
	var last time.Time
	for i := range 3 {
		time.Sleep(20 * time.Millisecond) // the step of times of a file system
		if err := one.PutPack(t.Context(), fmt.Sprint(dir, "/", i), []byte("grant"), list[:1]); err != nil {
			t.Fatal(err)
		}
		names, modified, err := two.Records(t.Context(), dir, last)
		slices.Sort(names)
		if !slices.Equal(names, []string{"0", "1", "2"}[:i+1]) || modified.Equal(last) || err != nil {
			t.Errorf("%q, %s, %v", names, modified, err)
		}
		last = modified
		if names, again, err := two.Records(t.Context(), dir, last); len(names) != 0 || !again.Equal(last) || err != nil {
			t.Errorf("unchanged: %q, %s, %v", names, again, err)
		}
	}
	if names, _, err := two.Records(t.Context(), dir, time.Time{}); len(names) != 3 || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}

// No name is lost where servers list records at the same time.
func testListedAtOnce(t *testing.T, server Server) {
	servers := []Packs{server(t), server(t), server(t)}
	_, list := parts()
	const n = 24
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			s := servers[i%len(servers)]
			if err := s.PutPack(t.Context(), fmt.Sprintf("named/a/images/%02d", i), []byte("grant"), list[:1]); err != nil {
				t.Error(err)
				return
			}
			names, _, err := servers[(i+1)%len(servers)].Records(t.Context(), "named/a/images", time.Time{})
			if err != nil || !slices.Contains(names, fmt.Sprintf("%02d", i)) {
				t.Errorf("%02d is stored and not listed: %q, %v", i, names, err)
			}
		})
	}
	wg.Wait()
	if names, _, err := server(t).Records(t.Context(), "named/a/images", time.Time{}); len(names) != n || err != nil {
		t.Errorf("%q, %v", names, err)
	}
}
