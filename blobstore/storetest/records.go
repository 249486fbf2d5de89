package storetest

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/blobstore"
)

const maxRecord = 8 << 20

// Records is the part of a store that keeps records.
type Records interface {
	Record(ctx context.Context, name string) ([]byte, error)
	PutRecord(ctx context.Context, name string, data []byte) error
}

// RunRecords tests the records of the stores that open returns, a new and empty one for
// each test.
func RunRecords(t *testing.T, open func(t *testing.T) Records) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, Records)
	}{
		{"Values", testRecordValues},
		{"Names", testRecordNames},
		{"Size", testRecordSize},
		{"Cancelled", testRecordCancelled},
		{"Concurrent", testRecordConcurrent},
	} {
		t.Run(test.name, func(t *testing.T) { test.run(t, open(t)) })
	}
}

func testRecordValues(t *testing.T, r Records) {
	for _, value := range []string{"one", "", "a longer one", "2", "\x00\xff"} {
		data := []byte(value)
		if err := r.PutRecord(t.Context(), "grants/1", data); err != nil {
			t.Fatal(err)
		}
		if len(data) > 0 {
			data[0]++ // the store must not share memory with its callers
		}
		got, err := r.Record(t.Context(), "grants/1")
		if err != nil || string(got) != value {
			t.Fatalf("record is %q, %v; want %q", got, err, value)
		}
		if len(got) > 0 {
			got[0]++
		}
		if again, err := r.Record(t.Context(), "grants/1"); err != nil || string(again) != value {
			t.Errorf("record is %q, %v; want %q", again, err, value)
		}
	}
}

func testRecordNames(t *testing.T, r Records) {
	names := []string{"a", "a/b", "a/b/c", "a/b-c", "grants/0123456789abcdef", "revoked/-", "a/c"}
	for _, name := range names {
		if _, err := r.Record(t.Context(), name); !errors.Is(err, blobstore.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("record %q before it was put: error %v, want ErrNotFound", name, err)
		}
	}
	for _, name := range names {
		if err := r.PutRecord(t.Context(), name, []byte(name)); err != nil {
			t.Errorf("put record %q: %v", name, err)
		}
	}
	for _, name := range names {
		if got, err := r.Record(t.Context(), name); err != nil || string(got) != name {
			t.Errorf("record %q is %q, %v", name, got, err)
		}
	}
	for _, name := range []string{
		"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "a/../b", "../a", "a/.tmp-1", "a.record", "A", "a-b", "-",
		"a/B", "a b", "a\\b", "a\x00", "a\n", "a/b\n", "é",
	} {
		if _, err := r.Record(t.Context(), name); err == nil || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("record %q: error %v, want one about the name", name, err)
		}
		if err := r.PutRecord(t.Context(), name, nil); err == nil {
			t.Errorf("put record %q: no error", name)
		}
	}
}

func testRecordSize(t *testing.T, r Records) {
	data := make([]byte, maxRecord+1)
	if err := r.PutRecord(t.Context(), "a", data); err == nil {
		t.Error("put too large a record: no error")
	}
	if _, err := r.Record(t.Context(), "a"); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("record that was too large: error %v, want ErrNotFound", err)
	}
	if err := r.PutRecord(t.Context(), "a", data[:maxRecord]); err != nil {
		t.Error(err)
	}
	if got, err := r.Record(t.Context(), "a"); err != nil || len(got) != maxRecord {
		t.Errorf("largest record: %d bytes, %v", len(got), err)
	}
}

func testRecordCancelled(t *testing.T, r Records) {
	if err := r.PutRecord(t.Context(), "a", []byte("old")); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.Record(ctx, "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("record: error %v, want context.Canceled", err)
	}
	if err := r.PutRecord(ctx, "a", []byte("new")); !errors.Is(err, context.Canceled) {
		t.Errorf("put record: error %v, want context.Canceled", err)
	}
	if got, err := r.Record(t.Context(), "a"); err != nil || string(got) != "old" {
		t.Errorf("record is %q, %v; want the old one", got, err)
	}
}

// Readers see the old value or the new one, never a mixture or a part.
func testRecordConcurrent(t *testing.T, r Records) {
	values := [][]byte{bytes.Repeat([]byte("a"), 50_000), bytes.Repeat([]byte("b"), 90_000)}
	if err := r.PutRecord(t.Context(), "a", values[0]); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 50 {
				if err := r.PutRecord(t.Context(), "a", values[(i+j)%2]); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				got, err := r.Record(t.Context(), "a")
				if err != nil || !bytes.Equal(got, values[0]) && !bytes.Equal(got, values[1]) {
					t.Errorf("read %d bytes, %v: neither value", len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
