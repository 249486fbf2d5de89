package assemble

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// endless is a host that sends some of each layer, and then nothing until the client
// leaves. running is how many answers are under way, begun how many ever were.
type endless struct{ running, begun atomic.Int32 }

func (e *endless) serve(w http.ResponseWriter, r *http.Request) {
	e.running.Add(1)
	defer e.running.Add(-1)
	e.begun.Add(1)
	w.Header().Set("Content-Length", "60000")
	_, _ = w.Write(make([]byte, 30000))
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// openFiles is how many files below the directory this process has open.
func openFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatalf("the open files cannot be counted: %v", err)
	}
	for _, fd := range list {
		if name, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(name, dir) {
			n++
		}
	}
	return n
}

// TestAbandonedDownloads: a download ends when its last caller has left, whichever way the
// layer comes, and leaves no file.
func TestAbandonedDownloads(t *testing.T) {
	f := newFixture(t)
	dir := t.TempDir()
	f.layers.tempDir = dir
	var host endless
	f.registry.Answer(host.serve)
	ctx, cancel := context.WithCancel(t.Context())
	var callers sync.WaitGroup
	const layers = 50
	for i := range layers {
		d := digest.FromString(fmt.Sprint(i))
		for range 3 { // callers of one layer share one download
			callers.Go(func() {
				var err error
				if i%2 == 0 {
					_, err = f.layers.Remote(ctx, f.registry.URL+"/layer", Expected{Digest: d})
				} else {
					_, err = f.layers.Image(ctx, "", "docker://docker.io/v2/library/app/blobs/"+d.String(), Expected{})
				}
				if !errors.Is(err, context.Canceled) {
					t.Errorf("a caller that left got %v", err)
				}
			})
		}
	}
	eventually(t, "the downloads do not begin", func() bool { return host.running.Load() == layers && openFiles(t, dir) == layers })
	cancel()
	callers.Wait()
	eventually(t, "the downloads go on without a caller", func() bool { return host.running.Load() == 0 && openFiles(t, dir) == 0 })
	if n := host.begun.Load(); n != layers {
		t.Errorf("%d downloads for %d layers", n, layers)
	}
	eventually(t, "files are left", func() bool { // they are removed after they are closed
		left, err := filepath.Glob(filepath.Join(dir, "*"))
		return err == nil && len(left) == 0
	})
}

// TestCallerStays: a download goes on for the caller that stays.
func TestCallerStays(t *testing.T) {
	f := newFixture(t)
	data, want := archive(t, "opt/added")
	begun, release := make(chan struct{}), make(chan struct{})
	f.registry.Answer(func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = w.Write(data)
	})
	first, leave := context.WithCancel(t.Context())
	ended := make(chan error, 2)
	for _, ctx := range []context.Context{first, t.Context()} {
		go func() {
			_, err := f.layers.Remote(ctx, f.registry.URL+"/layer", want)
			ended <- err
		}()
	}
	<-begun
	leave()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	time.Sleep(2500 * time.Millisecond) // longer than a download without callers goes on
	close(release)
	if err := <-ended; err != nil {
		t.Errorf("the caller that stayed got %v", err)
	}
}

// TestDownloadsAreBounded: the downloads of a client are bounded, and leave those of
// others alone.
func TestDownloadsAreBounded(t *testing.T) {
	f := newFixture(t)
	var host endless
	f.registry.Answer(host.serve)
	ledger := budget.NewLedger(budget.Limits{budget.Fetches: {Client: 4, All: 100}})
	ctx, cancel := context.WithCancel(t.Context())
	of := func(client string) context.Context { return budget.With(ctx, ledger.Open(client)) }
	var callers sync.WaitGroup
	take := func(client string, i int) error {
		want := Expected{Digest: digest.FromString(fmt.Sprint(i))}
		switch i % 3 {
		case 0:
			want = Expected{} // nothing is known, nothing shared
			fallthrough
		case 1:
			_, err := f.layers.Remote(of(client), fmt.Sprintf("%s/layer%d", f.registry.URL, i), want)
			return err
		default:
			_, err := f.layers.Image(of(client), "", "docker://docker.io/v2/library/app/blobs/"+want.Digest.String(), Expected{})
			return err
		}
	}
	for i := range 4 {
		callers.Go(func() { _ = take("greedy", i) })
	}
	eventually(t, "the downloads do not begin", func() bool { return host.running.Load() == 4 })
	for i := range 3 {
		err := take("greedy", 10+i)
		if e, ok := errors.AsType[*budget.Exceeded](err); !ok || e.Kind != budget.Fetches || e.Scope != budget.OfClient {
			t.Errorf("a fifth download, %d: %v", i, err)
		}
	}
	callers.Go(func() { _ = take("another", 20) })
	eventually(t, "another client's download does not begin", func() bool { return host.running.Load() == 5 })
	cancel()
	callers.Wait()
	eventually(t, "downloads are held that have ended", func() bool { return ledger.Held(budget.Fetches) == 0 })
}

// TestRatioOfInlineLayers: what came with the request counts, not what it unpacks to
// on the way.
func TestRatioOfInlineLayers(t *testing.T) {
	f := newFixture(t)
	data := archivetest.Gzip(t, archivetest.Tar(t, archivetest.File{Name: "zeros", Text: string(make([]byte, 66<<20))}))
	for packed, refused := range map[int64]bool{1000: true, 0: true, 1 << 20: false} {
		_, err := f.layers.Inline(t.Context(), f.store, bytes.NewReader(data), Expected{Packed: packed})
		if _, ok := errors.AsType[*augment.Error](err); ok != refused {
			t.Errorf("%d bytes, packed to %d: %v", len(data), packed, err)
		}
	}
}

// TestLayersArePrivate: a layer that one identity took in from a private image is no
// layer for another identity, which the registry refuses.
func TestLayersArePrivate(t *testing.T) {
	f := newFixture(t)
	data, want := archive(t, "secret")
	blob := f.registry.PutBlob("team/private", upstreamtest.Object{Data: data})
	path := upstreamtest.BlobPath("team/private", blob.Digest())
	location := "docker://docker.io/v2/team/private/blobs/" + blob.Digest().String()
	if _, err := f.layers.Image(t.Context(), "ann", location, want); err != nil {
		t.Fatal(err)
	}
	f.registry.AnswerAt(path, upstreamtest.Status(http.StatusUnauthorized)) // from now on, the registry refuses every identity
	if _, err := f.layers.Image(t.Context(), "ann", location, want); err != nil {
		t.Errorf("the identity that took it in: %v", err)
	}
	for _, identity := range []string{"bob", ""} {
		layer, err := f.layers.Image(t.Context(), identity, location, want)
		if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.Unauthorized {
			t.Errorf("BREACH: identity %q got %+v, %v", identity, layer, err)
		}
	}
}
