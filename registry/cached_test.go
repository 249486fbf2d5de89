package registry

import (
	"bytes"
	"cmp"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// cacheNetwork has a cache in front of two registries. The good one gives team/app
// to ann alone.
type cacheNetwork struct {
	t          *testing.T
	good, evil *upstreamtest.Registry
	blob       upstreamtest.Object
	source     cachedBlobs
}

func newCacheNetwork(t *testing.T) *cacheNetwork {
	n := &cacheNetwork{t: t, good: upstreamtest.New(t), evil: upstreamtest.New(t)}
	n.blob = upstreamtest.Object{Data: []byte(strings.Repeat("private bytes ", 1000))}
	n.good.Answer(func(w http.ResponseWriter, r *http.Request) {
		user, _, _ := r.BasicAuth()
		switch {
		case !strings.HasPrefix(r.URL.Path, "/v2/team/app/"):
			http.NotFound(w, r)
		case user == "":
			w.Header().Set("WWW-Authenticate", "Basic")
			w.WriteHeader(http.StatusUnauthorized)
		case user != "ann":
			w.WriteHeader(http.StatusForbidden)
		default:
			n.blob.ServeHTTP(w, r)
		}
	})
	client, err := upstream.New(upstream.Options{
		Registries: map[string]upstream.Registry{"good.example.org": {URL: n.good.URL}, "evil.example.org": {URL: n.evil.URL}},
		Keychain: auth.ByIdentity(func(identity string) auth.Keychain {
			return auth.Static(map[string]auth.Credential{"good.example.org": {Username: identity, Password: "x"}})
		}),
		Wait: new(upstreamtest.Pauses).Wait,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	c, err := cache.Open(t.TempDir(), 1<<20, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	n.source = newCachedBlobs(c, client)
	return n
}

// get asks the source for the blob in a target's name.
func (n *cacheNetwork) get(target auth.Target) ([]byte, error) {
	n.t.Helper()
	d := ocispec.Descriptor{Digest: n.blob.Digest(), Size: int64(len(n.blob.Data)), MediaType: ocispec.MediaTypeImageLayerGzip}
	img := &image{grant: &auth.Grant{}, target: target, upstream: descriptors{d.Digest: {d.MediaType, d.Size}}, late: newLate()}
	served := make(chan error, 1)
	s := httptest.NewServer(front.Front{Log: slog.New(slog.DiscardHandler)}.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		err := n.source.serveBlob(w, r, img, d.Digest)
		served <- err
		if err != nil {
			http.Error(w, "refused", http.StatusTeapot)
		}
	})))
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	select {
	case refused := <-served:
		return body, cmp.Or(refused, err)
	default: // aborted
		return body, err
	}
}

// stored waits until the blob is stored.
func (n *cacheNetwork) stored() {
	n.t.Helper()
	r := cache.Reader{Registry: n.good.URL, Proven: true}
	d := ocispec.Descriptor{Digest: n.blob.Digest(), Size: int64(len(n.blob.Data))}
	for {
		b, err := n.source.cache.Open(n.t.Context(), r, d, nil)
		if errors.Is(err, cache.ErrUnavailable) { // another one's fill runs
			time.Sleep(time.Millisecond)
			continue
		}
		if err != nil {
			n.t.Fatal(err)
		}
		stored := b.Stored()
		b.Close()
		if stored {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

var (
	ann       = auth.Target{Identity: "ann", Registry: "good.example.org", Repository: "team/app"}
	bob       = auth.Target{Identity: "bob", Registry: "good.example.org", Repository: "team/app"}
	elsewhere = auth.Target{Identity: "ann", Registry: "good.example.org", Repository: "other/app"}
	hostile   = auth.Target{Identity: "ann", Registry: "evil.example.org", Repository: "team/app"}
)

// TestCacheIsNoPermission: a blob that is cached for one identity, repository and
// registry is refused to every other that its own registry refuses, and to one
// whose registry only claims to have it.
func TestCacheIsNoPermission(t *testing.T) {
	n := newCacheNetwork(t)
	refused := func(when string) {
		t.Helper()
		for name, target := range map[string]auth.Target{"identity": bob, "repository": elsewhere, "registry that says no": hostile} {
			if body, err := n.get(target); err == nil || bytes.Contains(body, []byte("private")) {
				t.Errorf("%s, another %s: %.20q, %v", when, name, body, err)
			}
		}
	}
	refused("cold")
	if body, err := n.get(ann); err != nil || !bytes.Equal(body, n.blob.Data) {
		t.Fatalf("the owner: %d bytes, %v", len(body), err)
	}
	n.stored()
	refused("cached")
	n.evil.Answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", "14000")
		if r.Method == http.MethodGet {
			_, _ = w.Write(bytes.Repeat([]byte("garbage"), 2000))
		}
	})
	if body, _ := n.get(hostile); bytes.Contains(body, []byte("private")) {
		t.Errorf("a registry that claims to have the digest reads it: %.20q", body)
	}
	if body, err := n.get(ann); err != nil || !bytes.Equal(body, n.blob.Data) {
		t.Errorf("the owner, afterwards: %d bytes, %v", len(body), err)
	}
}

// TestProofIsAskedOnce: a permission is not requested again for a while, and one
// HEAD serves all requests that wait for it.
func TestProofIsAskedOnce(t *testing.T) {
	n := newCacheNetwork(t)
	if _, err := n.get(ann); err != nil {
		t.Fatal(err)
	}
	n.stored()
	n.good.TakeLines()
	if _, err := n.get(ann); err != nil {
		t.Fatal(err)
	}
	n.good.WantRequests(t)
	n.stored()
	n.source.readable.Purge()
	for range 3 {
		if _, err := n.get(ann); err != nil {
			t.Fatal(err)
		}
	}
	lines := n.good.TakeLines()
	if len(lines) != 1 || !strings.HasPrefix(lines[0], "HEAD ") {
		t.Errorf("asked %q, want one HEAD", lines)
	}
}

// TestUnprovenFailure: a registry that cannot be asked leaves the blob unread.
func TestUnprovenFailure(t *testing.T) {
	n := newCacheNetwork(t)
	if _, err := n.get(ann); err != nil {
		t.Fatal(err)
	}
	n.stored()
	n.source.readable.Purge()
	n.good.Answer(upstreamtest.Status(http.StatusServiceUnavailable))
	if body, err := n.get(ann); err == nil || bytes.Contains(body, []byte("private")) {
		t.Errorf("%.20q, %v", body, err)
	}
}
