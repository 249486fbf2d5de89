package assemble

import (
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// confirming is a fixture with a clock, and an image that may be pushed again.
type confirming struct {
	fixture
	clock time.Time
	path  string
}

func newConfirming(t *testing.T) *confirming {
	f := &confirming{fixture: newFixture(t), clock: time.Now(), path: upstreamtest.ManifestPath("library/app", "dev")}
	f.resolver.bases.now = func() time.Time { return f.clock }
	return f
}

func (f *confirming) push(t *testing.T, text string) digest.Digest {
	t.Helper()
	return f.registry.PushImage(t, "library/app", "amd64", []archivetest.File{{Name: "etc/app", Text: text}}, "dev").Manifest.Digest()
}

// pinned submits the tag and returns the base.
func (f *confirming) pinned(t *testing.T) digest.Digest {
	t.Helper()
	staged, recipe := f.staged(t, "added")
	grant, err := f.resolver.Resolve(t.Context(), ImageRequest{Ref: parse(t, "app:dev"), Recipe: recipe, Staged: staged})
	if err != nil {
		t.Fatal(err)
	}
	return grant.Base
}

// inspected inspects the tag and returns its digest.
func (f *confirming) inspected(t *testing.T) digest.Digest {
	t.Helper()
	in, err := f.resolver.Inspect(t.Context(), "", parse(t, "app:dev"), nil)
	if err != nil {
		t.Fatal(err)
	}
	return in.Root.Digest
}

// TestMovedTagIsSeenAtOnce: a tag that was pushed again is pinned and inspected anew. A
// tag that has not moved costs one HEAD in confirmTTL.
func TestMovedTagIsSeenAtOnce(t *testing.T) {
	for name, ask := range map[string]func(*confirming, *testing.T) digest.Digest{"submit": (*confirming).pinned, "inspect": (*confirming).inspected} {
		t.Run(name, func(t *testing.T) {
			f := newConfirming(t)
			first := f.push(t, "one")
			if got := ask(f, t); got != first {
				t.Fatalf("got %s, want %s", got, first)
			}
			f.registry.TakeRequests()
			for range 3 {
				f.clock = f.clock.Add(confirmTTL)
				for range 10 {
					if got := ask(f, t); got != first {
						t.Fatalf("got %s, want %s", got, first)
					}
				}
				f.registry.WantRequests(t, "HEAD "+f.path)
			}
			second := f.push(t, "two")
			f.clock = f.clock.Add(confirmTTL)
			if got := ask(f, t); got != second {
				t.Errorf("the tag was pushed again, and %s is the previous image", got)
			}
			if asked := f.registry.TakeLines(); len(asked) < 2 || asked[0] != "HEAD "+f.path || asked[1] != "GET "+f.path {
				t.Errorf("asked %v", asked)
			}
			third := f.push(t, "one") // back to the first
			f.clock = f.clock.Add(confirmTTL)
			if got := ask(f, t); got != third || third != first {
				t.Errorf("the tag went back, and %s is the previous image", got)
			}
		})
	}
}

// TestConfirmedOnce: submissions at the same time share one HEAD.
func TestConfirmedOnce(t *testing.T) {
	f := newConfirming(t)
	want := f.push(t, "one")
	f.pinned(t)
	f.registry.TakeRequests()
	f.clock = f.clock.Add(confirmTTL)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if got := f.pinned(t); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		})
	}
	all.Wait()
	f.registry.WantRequests(t, "HEAD "+f.path)
}

// TestUnconfirmedTag: while the registry cannot be asked, a tag is good for tagTTL after
// it was last confirmed. A refusal counts at once.
func TestUnconfirmedTag(t *testing.T) {
	for _, code := range []int{http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		f := newConfirming(t)
		want := f.push(t, "one")
		f.pinned(t)
		f.registry.Answer(upstreamtest.Status(code, "Retry-After", "3600"))
		f.clock = f.clock.Add(tagTTL - time.Second)
		if got := f.pinned(t); got != want {
			t.Errorf("%d: got %s, want %s", code, got, want)
		}
		f.clock = f.clock.Add(time.Second)
		if _, err := f.resolver.Inspect(t.Context(), "", parse(t, "app:dev"), nil); err == nil {
			t.Errorf("%d: a tag that was not confirmed for %v is still used", code, tagTTL)
		}
	}
	f := newConfirming(t)
	f.push(t, "one")
	f.pinned(t)
	f.registry.Answer(upstreamtest.Status(http.StatusNotFound))
	f.clock = f.clock.Add(confirmTTL)
	if _, err := f.resolver.Inspect(t.Context(), "", parse(t, "app:dev"), nil); err == nil {
		t.Error("a tag that was deleted is still used")
	}
	f.registry.WantRequests(t, "GET "+f.path, "GET "+upstreamtest.BlobPath("library/app", f.config(t)), "HEAD "+f.path, "GET "+f.path)
}

// config is the digest of the image's config.
func (f *confirming) config(t *testing.T) digest.Digest {
	t.Helper()
	return f.registry.PushImage(t, "library/app", "amd64", []archivetest.File{{Name: "etc/app", Text: "one"}}).Config.Digest()
}
