package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// stallChild stops in the middle of a Put.
func stallChild(ctx context.Context, dir string) error {
	s, err := blobstore.NewDir(dir)
	if err != nil {
		return err
	}
	data := storetest.Bytes(100_000, "stall")
	half := bytes.NewReader(data[:50_000])
	stall := readerFunc(func([]byte) (int, error) {
		pause()
		return 0, errors.New("not killed")
	})
	return s.Put(ctx, digest.FromBytes(data), io.MultiReader(half, stall))
}

func TestKill(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	writer := startChild(t, "stall", dir)
	writer.await(t)

	// The writer lives: a sweep leaves its file.
	openDir(t, dir)
	temps := tempFiles(t, dir)
	if len(temps) != 1 || fileSize(t, temps[0]) != 50_000 {
		t.Fatalf("temporary files %q, want one of 50000 bytes", temps)
	}

	if err := writer.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := writer.cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("child ended with %v", err)
	}
	data := storetest.Bytes(100_000, "stall")
	d := digest.FromBytes(data)
	for _, d := range []digest.Digest{d, digest.FromBytes(data[:50_000])} {
		if _, err := s.Open(t.Context(), d); !errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("open %s after the crash: error %v, want ErrNotFound", d, err)
		}
	}
	if got := tempFiles(t, dir); !slices.Equal(got, temps) {
		t.Errorf("temporary files %q after the crash, want %q", got, temps)
	}

	s = openDir(t, dir)
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("files %q after opening again, want none", got)
	}
	if err := s.Put(t.Context(), d, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	wantBlob(t, s, data)
}

// fullChild may write no file of more than 64 KiB, which fails like a full
// disk and needs neither root nor a small file system.
func fullChild(ctx context.Context, dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		return err
	}
	s, err := blobstore.NewDir(dir)
	if err != nil {
		return err
	}
	if err := s.PutRecord(ctx, "grants/1", []byte("small")); err != nil {
		return err
	}
	large := storetest.Bytes(1<<20, "large")
	if err := s.Put(ctx, digest.FromBytes(large), bytes.NewReader(large)); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("put large blob: %v, want EFBIG", err)
	}
	if err := s.PutRecord(ctx, "grants/1", large); !errors.Is(err, syscall.EFBIG) {
		return fmt.Errorf("put large record: %v, want EFBIG", err)
	}
	small := storetest.Bytes(1000, "small")
	return s.Put(ctx, digest.FromBytes(small), bytes.NewReader(small))
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := startChild(t, "full", dir).cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 2 { // before any sweep
		t.Errorf("files %q, want the small blob and the record", got)
	}
	s := openDir(t, dir)
	wantBlob(t, s, storetest.Bytes(1000, "small"))
	if _, err := s.Open(t.Context(), digest.FromBytes(storetest.Bytes(1<<20, "large"))); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("open large blob: error %v, want ErrNotFound", err)
	}
	if got, err := s.Record(t.Context(), "grants/1"); err != nil || string(got) != "small" {
		t.Errorf("record %q, %v; want the old one", got, err)
	}
}

const sharedBlobs = 40

func sharedBlob(i int) []byte { return storetest.Bytes(70_000, fmt.Sprint("shared", i)) }

// shareChild puts the same blobs as its siblings, and sweeps the store often to
// get in their way.
func shareChild(ctx context.Context, dir string) error {
	pause()
	for i := range sharedBlobs {
		s, err := blobstore.NewDir(dir)
		if err == nil {
			err = s.Sweep(ctx)
		}
		if err != nil {
			return err
		}
		data := sharedBlob(i)
		if err := s.Put(ctx, digest.FromBytes(data), bytes.NewReader(data)); err != nil {
			return err
		}
	}
	return nil
}

func TestProcessesShareDir(t *testing.T) {
	dir := t.TempDir()
	var siblings []*child
	for range 4 {
		c := startChild(t, "share", dir)
		c.await(t)
		siblings = append(siblings, c)
	}
	for _, c := range siblings {
		c.stdin.Close()
	}
	for _, c := range siblings {
		if err := c.cmd.Wait(); err != nil {
			t.Errorf("child ended with %v", err)
		}
	}
	if got := files(t, dir); len(got) != sharedBlobs {
		t.Errorf("%d files, want %d", len(got), sharedBlobs)
	}
	s := openDir(t, dir)
	for i := range sharedBlobs {
		wantBlob(t, s, sharedBlob(i))
	}
}

// Sweeping never takes the file of a live writer, not even between its creation
// and its lock.
func TestSweepSparesWriters(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	stop := make(chan struct{})
	var sweepers, writers sync.WaitGroup
	for range 2 {
		sweepers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if err := s.Sweep(t.Context()); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	for i := range 4 {
		writers.Go(func() {
			for j := range 100 {
				// One directory, so that sweeps are quick and meet the writers.
				if err := s.PutRecord(t.Context(), fmt.Sprintf("grants/%d", i), []byte(strings.Repeat("x", j))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	writers.Wait()
	close(stop)
	sweepers.Wait()
	if got := tempFiles(t, dir); len(got) != 0 {
		t.Errorf("temporary files %q, want none", got)
	}
}
