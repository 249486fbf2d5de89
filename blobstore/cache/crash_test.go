package cache_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// kills is for longer runs, such as that of make test-all.
var kills = flag.Int("kills", 5, "processes that are killed while they fill a directory, one after the other")

const (
	killDirs  = 3 // directories; as many are tested at once as there are cores
	fillBlobs = 200
	killMax   = 3 << 20 // room for half of what is fetched
)

// fillChild runs many fills, until it is killed.
func fillChild(dir string) error {
	c, err := cache.Open(dir, killMax, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	var fills sync.WaitGroup
	for i := range fillBlobs {
		data := storetest.Bytes(5_000+rand.IntN(40_000), fmt.Sprint("kill", i))
		fills.Go(func() {
			for {
				b, err := c.Open(context.Background(), reader, descriptor(data), dribble(data))
				if err != nil { // no room
					time.Sleep(rand.N(10 * time.Millisecond))
					continue
				}
				io.Copy(io.Discard, b)
				b.Close()
			}
		})
	}
	fmt.Println("ready")
	fills.Wait()
	return nil
}

// dribble sends a blob in pieces, with pauses.
func dribble(data []byte) cache.Fetch {
	return func(_ context.Context, offset int64) (io.ReadCloser, error) {
		r := bytes.NewReader(data[offset:])
		return io.NopCloser(readerFunc(func(p []byte) (int, error) {
			time.Sleep(rand.N(time.Millisecond))
			return r.Read(p[:min(len(p), 1+rand.IntN(12_000))])
		})), nil
	}
}

func TestKill(t *testing.T) {
	var leftovers, verified atomic.Int64
	t.Run("all", func(t *testing.T) { // ends when its parallel tests have
		for i := range killDirs {
			t.Run(fmt.Sprint(i), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				for range *kills {
					leftovers.Add(int64(killFills(t, dir)))
					c := openCache(t, dir, killMax)
					if err := c.Check(); err != nil {
						t.Error(err)
					}
					verified.Add(int64(verifyFiles(t, dir)))
					c.Close()
				}
			})
		}
	})
	t.Logf("%d unfinished files removed, %d blobs verified", leftovers.Load(), verified.Load())
	if leftovers.Load() == 0 || verified.Load() == 0 {
		t.Error("the kills did not meet the fills")
	}
}

// killFills kills a process that fills the directory and returns how many
// unfinished files it left. The process and its lifetime are real.
func killFills(t *testing.T, dir string) int {
	t.Helper()
	cmd := child(t, "fill", dir)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(stdout, make([]byte, len("ready\n"))); err != nil {
		t.Errorf("child: %v", err)
	}
	time.Sleep(rand.N(60 * time.Millisecond))
	cmd.Process.Kill()
	if err := cmd.Wait(); err == nil || err.Error() != "signal: killed" {
		t.Fatalf("child ended with %v", err)
	}
	temps, err := filepath.Glob(dir + "/.tmp-*")
	if err != nil {
		t.Fatal(err)
	}
	return len(temps)
}

// verifyFiles returns the number of blobs and checks the digest of each.
func verifyFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range names {
		if e.Name() == ".lock" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		if found := digest.FromBytes(data).String(); !strings.HasPrefix(e.Name(), strings.Replace(found, ":", "-", 1)+"-") {
			t.Errorf("file %s has the digest %s", e.Name(), found)
		}
		n++
	}
	return n
}

// fullChild may write no file of more than 64 KiB, which fails like a full
// disk and needs neither root nor a small file system.
func fullChild(dir string) error {
	signal.Ignore(syscall.SIGXFSZ)
	if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: 64 << 10, Max: 64 << 10}); err != nil {
		return err
	}
	c, err := cache.Open(dir, 1<<30, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer c.Close()
	small := storetest.Bytes(1000, "small")
	src := &source{data: small}
	if err := readAs(c, descriptor(small), src.fetch, small); err != nil {
		return fmt.Errorf("small blob: %w", err)
	}

	data := storetest.Bytes(3<<20, "full")
	src = &source{data: data}
	offsets := make(chan int64, 10)
	release := make(chan bool)
	fetch := func(ctx context.Context, offset int64) (io.ReadCloser, error) {
		offsets <- offset
		if offset == 0 {
			<-release // until all readers are there
		}
		return src.fetch(ctx, offset)
	}
	errs := make(chan error)
	for range 5 {
		go func() { errs <- readAs(c, descriptor(data), fetch, data) }()
	}
	close(release)
	for range 5 {
		if err := <-errs; err != nil && !errors.Is(err, cache.ErrUnavailable) {
			return fmt.Errorf("large blob: %w", err)
		}
	}
	if offset := <-offsets; offset != 0 {
		return fmt.Errorf("first fetch at %d", offset)
	}
	if offset := <-offsets; offset > 64<<10 {
		return fmt.Errorf("a reader went on at %d", offset)
	}
	if err := readAs(c, descriptor(data), noFetch, data); !errors.Is(err, cache.ErrUnavailable) {
		return fmt.Errorf("open after the disk has failed: %v", err)
	}
	if err := readAs(c, descriptor(small), noFetch, small); err != nil {
		return fmt.Errorf("stored blob: %w", err)
	}
	return c.Check()
}

func readAs(c *cache.Cache, d ocispec.Descriptor, fetch cache.Fetch, want []byte) error {
	b, err := c.Open(context.Background(), reader, d, fetch)
	if err != nil {
		return err
	}
	defer b.Close()
	got, err := io.ReadAll(b)
	if err == nil && !bytes.Equal(got, want) {
		err = fmt.Errorf("got %d other bytes", len(got))
	}
	return err
}

func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := child(t, "full", dir).Run(); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, storetest.Bytes(1000, "small"))
}

func child(t *testing.T, name, dir string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, dir)
	cmd.Env = append(os.Environ(), childVar+"="+name)
	cmd.Stderr = t.Output()
	return cmd
}
