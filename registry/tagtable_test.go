package registry

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

const (
	appManifests = "/v2/library/app/manifests/"
	toolsApp     = "tools/library/app/manifests/"
)

// TestNamedTagRequests holds the upstream requests that a tag costs.
func TestNamedTagRequests(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	one := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	first := s.get(toolsApp + "1")
	net.WantAnyOrder(t, "GET "+appManifests+"1",
		"GET "+appManifests+one.Images[0].Manifest.Digest().String(), "GET "+appManifests+one.Images[1].Manifest.Digest().String(),
		"GET /v2/library/app/blobs/"+one.Images[0].Config.Digest().String(), "GET /v2/library/app/blobs/"+one.Images[1].Config.Digest().String(),
		// Where the recipe's files land depends on the layers, each of which is read once.
		"GET /v2/library/app/blobs/"+one.Images[0].Layer.Digest().String(), "GET /v2/library/app/blobs/"+one.Images[1].Layer.Digest().String())
	if strings.Contains(string(first.body), "attestation") || first.digest() == one.Index.Digest() {
		t.Errorf("the index is %s", first.body)
	}
	if first.header.Get("Cache-Control") != tagCacheControl || first.header.Get("Warning") != "" {
		t.Errorf("headers %v", first.header)
	}

	same := func() {
		t.Helper()
		for range 100 {
			for _, method := range []string{"HEAD", "GET"} {
				if a := s.do(method, toolsApp+"1"); a.status != 200 || a.digest() != first.digest() {
					t.Fatalf("status %d, digest %s", a.status, a.digest())
				}
			}
		}
	}
	same()
	net.advance(tagTTL - time.Second)
	same()
	net.WantAnyOrder(t)
	for range 3 {
		net.advance(tagTTL)
		same()
		net.WantAnyOrder(t, "HEAD "+appManifests+"1")
	}

	two := net.PushIndex(t, "library/app", "1", "two", "amd64")
	net.advance(tagTTL)
	if a := s.get(toolsApp + "1"); a.digest() == first.digest() {
		t.Error("the tag has moved, and the image is still the previous one")
	}
	net.WantAnyOrder(t, "HEAD "+appManifests+"1", "GET "+appManifests+"1",
		"GET "+appManifests+two.Images[0].Manifest.Digest().String(), "GET /v2/library/app/blobs/"+two.Images[0].Config.Digest().String(),
		"GET /v2/library/app/blobs/"+two.Images[0].Layer.Digest().String())
	// Advertised digests can still be pulled.
	pull(t, "tools/library/app", first.digest().String(), s)
}

// TestNamedTagWithoutHead: a registry that does not know HEAD, or answers it without
// a digest, is asked with GET.
func TestNamedTagWithoutHead(t *testing.T) {
	for name, head := range map[string]http.HandlerFunc{
		"405":       upstreamtest.Status(405),
		"403":       upstreamtest.Status(403),
		"404":       upstreamtest.Status(404),
		"501":       upstreamtest.Status(501),
		"no digest": upstreamtest.Status(200, "Content-Type", "application/json"),
	} {
		t.Run(name, func(t *testing.T) {
			net := newNetwork(t)
			s := net.start()
			net.PushIndex(t, "library/app", "1", "one", "amd64")
			first := s.get(toolsApp + "1").digest()
			moved := net.PushIndex(t, "library/app", "1", "two", "amd64").Index
			net.TakeRequests()
			net.advance(tagTTL)
			net.AnswerAt(appManifests+"1", func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					head(w, r)
					return
				}
				w.Header().Set("Content-Type", moved.MediaType)
				_, _ = w.Write(moved.Data)
			})
			if a := s.get(toolsApp + "1"); a.digest() == first {
				t.Error("the tag has moved, and the image is still the previous one")
			}
			if asked := net.TakeLines(); asked[0] != "HEAD "+appManifests+"1" {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

// TestNamedTagOnce: concurrent clients share one look-up, even if the one that
// started it leaves.
func TestNamedTagOnce(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	index := net.PushIndex(t, "library/app", "1", "one", "amd64").Index
	release, reached := make(chan struct{}), make(chan struct{}, 1)
	net.AnswerAt(appManifests+"1", func(w http.ResponseWriter, r *http.Request) {
		reached <- struct{}{}
		<-release
		index.ServeHTTP(w, r)
	})
	ctx, leave := context.WithCancel(t.Context())
	gone := make(chan error)
	go func() {
		_, err := s.try(ctx, "GET", toolsApp+"1")
		gone <- err
	}()
	<-reached
	var others sync.WaitGroup
	for range 40 {
		others.Go(func() {
			if a, err := s.try(t.Context(), "GET", toolsApp+"1"); err != nil || a.status != 200 {
				t.Errorf("status %d, %v", a.status, err)
			}
		})
	}
	leave()
	if err := <-gone; !errors.Is(err, context.Canceled) {
		t.Errorf("the first one got %v", err)
	}
	close(release)
	others.Wait()
	if asked := net.TakeLines(); len(asked) != 4 {
		t.Errorf("asked %v, want the tag, the manifest, the config and the layer, once each", asked)
	}
}

// TestNamedTagStale: while the upstream is down or busy, the last known tag is
// served, and the upstream is asked again after each pause, with a line in the log.
func TestNamedTagStale(t *testing.T) {
	for name, test := range map[string]struct {
		answer  http.HandlerFunc
		timeout time.Duration // of HEAD while the upstream answers so
		pause   time.Duration
	}{
		"429":              {upstreamtest.Status(429, "Retry-After", "3600"), headTimeout, maxPause},
		"429 for a moment": {upstreamtest.Status(429, "Retry-After", "20"), headTimeout, 20 * time.Second},
		"503":              {upstreamtest.Status(503, "Retry-After", "3600"), headTimeout, maxPause},
		"502 and no word":  {upstreamtest.Status(502), headTimeout, minPause},
		"no answer":        {upstreamtest.Silence, 400 * time.Millisecond, minPause},
		"not HTTP":         {upstreamtest.HangUp, headTimeout, minPause},
	} {
		t.Run(name, func(t *testing.T) {
			net := newNetwork(t)
			s := net.start()
			net.PushIndex(t, "library/app", "1", "one", "amd64")
			want := s.get(toolsApp + "1").digest()
			net.TakeRequests()
			fail := func() {
				net.Answer(test.answer)
				s.server.named.tags.source.headTimeout = test.timeout
			}
			restore := func() {
				net.Answer(nil)
				s.server.named.tags.source.headTimeout = headTimeout
			}
			fail()
			net.advance(tagTTL)
			for round := 1; round <= 2; round++ {
				for range 20 {
					a := s.get(toolsApp + "1")
					if a.digest() != want || !strings.HasPrefix(a.header.Get("Warning"), "110 ") {
						t.Fatalf("digest %s, headers %v", a.digest(), a.header)
					}
				}
				if asked := net.TakeLines(); len(asked) == 0 || len(asked) > 5 || asked[0] != "HEAD "+appManifests+"1" { // with retries
					t.Errorf("asked %v", asked)
				}
				if n := s.logged("upstream unavailable, serving the last known tag"); n != round {
					t.Errorf("%d lines in the log, want %d", n, round)
				}
				net.advance(test.pause)
			}
			restore()
			if a := s.get(toolsApp + "1"); a.header.Get("Warning") != "" {
				t.Error("the warning stays when the upstream is back")
			}
			fail()
			net.advance(maxStale)
			if a := s.do("GET", toolsApp+"1"); a.status < 400 {
				t.Errorf("status %d a week later", a.status)
			}
			restore()
			pull(t, "tools/library/app", want.String(), s) // the digest is good for ever
		})
	}
}

// TestNamedTagRefused: an older answer never hides a refusal of the upstream.
func TestNamedTagRefused(t *testing.T) {
	for name, test := range map[string]struct {
		upstream, status int
	}{"not found": {404, 404}, "unauthorized": {401, 403}, "forbidden": {403, 403}} {
		t.Run(name, func(t *testing.T) {
			net := newNetwork(t)
			s, other := net.start(), net.start()
			net.PushIndex(t, "library/app", "1", "one", "amd64")
			want := s.get(toolsApp + "1").digest()
			if other.get(toolsApp+"1").digest() != want {
				t.Fatal("the servers differ")
			}
			net.advance(tagTTL)
			net.TakeRequests()
			net.Answer(upstreamtest.Status(test.upstream))
			for range 20 {
				if a := s.do("GET", toolsApp+"1"); a.status != test.status {
					t.Fatalf("status %d, %s; want %d", a.status, a.body, test.status)
				}
			}
			net.WantAnyOrder(t, "HEAD "+appManifests+"1", "GET "+appManifests+"1")
			// This holds at every server, even when the upstream is down
			// afterwards.
			net.Answer(upstreamtest.Status(503, "Retry-After", "3600"))
			net.advance(refusedTTL)
			for _, r := range []*replica{s, other, net.start()} {
				if a := r.do("GET", toolsApp+"1"); a.status != 502 {
					t.Errorf("status %d, %s", a.status, a.body)
				}
			}
			if a := s.do("GET", toolsApp+want.String()); a.status != 200 {
				t.Errorf("the digest that was advertised: status %d", a.status)
			}
			net.Answer(nil)
			net.advance(maxPause)
			if a := s.get(toolsApp + "1"); a.digest() != want {
				t.Error("the tag is back with another image")
			}
		})
	}
}

// TestNamedTagUncached: for a tag that was never pulled, the answer tells the
// upstream's failure, and the upstream is asked once.
func TestNamedTagUncached(t *testing.T) {
	for name, test := range map[string]struct {
		upstream   http.HandlerFunc
		status     int
		retryAfter string
		text       string
	}{
		"429": {upstreamtest.Status(429, "Retry-After", "77"), 429, "77", "429 Too Many Requests"},
		"503": {upstreamtest.Status(503, "Retry-After", "77"), 502, "77", "503 Service Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			net := newNetwork(t)
			s := net.start()
			net.Answer(test.upstream)
			for range 50 {
				a := s.do("GET", toolsApp+"1")
				if a.status != test.status || a.header.Get("Retry-After") != test.retryAfter || !strings.Contains(string(a.body), test.text) || !strings.Contains(string(a.body), "docker.io/library/app:1") {
					t.Fatalf("status %d, Retry-After %q, %s", a.status, a.header.Get("Retry-After"), a.body)
				}
			}
			net.WantAnyOrder(t, "GET "+appManifests+"1")
		})
	}
}

// TestNamedTagRefusedElsewhere: a refusal also ends the tag for servers that have
// another recipe in force, as in the middle of a reload.
func TestNamedTagRefusedElsewhere(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	old, _ := net.Recipe("tools")
	net.start().get(toolsApp + "1")
	reloaded := old
	reloaded.Env = []string{"NEW=1"}
	net.setRecipe("tools", reloaded)
	net.advance(tagTTL)
	net.Answer(upstreamtest.Status(403))
	if a := net.start().do("GET", toolsApp+"1"); a.status != 403 {
		t.Errorf("status %d", a.status)
	}
	net.setRecipe("tools", old)
	net.Answer(upstreamtest.Status(503))
	if a := net.start().do("GET", toolsApp+"1"); a.status != 502 {
		t.Errorf("status %d for a tag that was refused since", a.status)
	}
	net.records.written()
	net.Answer(upstreamtest.Status(404))
	net.start().do("GET", toolsApp+"1")
	net.start().do("GET", toolsApp+"never")
	if n := net.records.written(); n != 0 {
		t.Errorf("%d records, want none", n)
	}
}

// TestNamedTagUnfit: an image that cannot be served is not read again at once.
func TestNamedTagUnfit(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	config := net.PutBlob("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageConfig, Data: []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}`)})
	// A larger manifest than is kept in memory.
	large := strings.Repeat("x", 128<<10)
	net.PutManifest("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(`{"schemaVersion":2,"config":` + string(encode(t, config.Descriptor())) + `,"layers":[{"digest":"abc","size":1}],"annotations":{"a":"` + large + `"}}`)}, "1")
	for range 5 {
		if a := s.do("GET", toolsApp+"1"); a.status != 400 {
			t.Fatalf("status %d, %s", a.status, a.body)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+"1")
}

// TestNamedTagMovesInside: a tag may move to a manifest of the index that it named.
// The manifest's digest is recorded as the index's then, and is not its image.
func TestNamedTagMovesInside(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	img := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	index := s.get(toolsApp + "1")
	net.PutManifest("library/app", img.Images[0].Manifest, "1")
	net.advance(tagTTL + time.Second)
	for name, s := range map[string]*replica{"the same server": s, "another": net.start()} {
		a := s.get(toolsApp + "1")
		if a.digest() == index.digest() || a.header.Get("Content-Type") != ocispec.MediaTypeImageManifest {
			t.Errorf("%s: the tag is %s, a %s", name, a.digest(), a.header.Get("Content-Type"))
		}
		if again := s.get(toolsApp + index.digest().String()); !bytes.Equal(again.body, index.body) {
			t.Errorf("%s: the index has changed", name)
		}
	}
}
