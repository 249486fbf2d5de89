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
)

const (
	appManifests = "library/app/manifests/"
	toolsApp     = "tools/library/app/manifests/"
)

// TestNamedTagRequests holds what is asked of the upstream about a tag.
func TestNamedTagRequests(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	one := w.push("library/app", "1", "one", "amd64", "arm64")
	first := s.get(toolsApp + "1")
	w.wantAsked("GET "+appManifests+"1",
		"GET "+appManifests+one.children[0].digest().String(), "GET "+appManifests+one.children[1].digest().String(),
		"GET library/app/blobs/"+one.configs[0].digest().String(), "GET library/app/blobs/"+one.configs[1].digest().String())
	if strings.Contains(string(first.body), "attestation") || first.digest() == one.index.digest() {
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
	w.wait(tagTTL - time.Second)
	same()
	w.wantAsked()
	for range 3 {
		w.wait(tagTTL)
		same()
		w.wantAsked("HEAD " + appManifests + "1")
	}

	two := w.push("library/app", "1", "two", "amd64")
	w.wait(tagTTL)
	if a := s.get(toolsApp + "1"); a.digest() == first.digest() {
		t.Error("the tag has moved, and the image is what it was")
	}
	w.wantAsked("HEAD "+appManifests+"1", "GET "+appManifests+"1",
		"GET "+appManifests+two.children[0].digest().String(), "GET library/app/blobs/"+two.configs[0].digest().String())
	// What was advertised stays good.
	pull(t, "tools/library/app", first.digest().String(), s)
}

// TestNamedTagWithoutHead: registries that do not know HEAD, or do not say what
// they have, are asked with GET.
func TestNamedTagWithoutHead(t *testing.T) {
	for name, head := range map[string]http.HandlerFunc{
		"405":       status(405),
		"no digest": status(200, "Content-Type", "application/json"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.start()
			w.push("library/app", "1", "one", "amd64")
			first := s.get(toolsApp + "1").digest()
			w.push("library/app", "1", "two", "amd64")
			w.asked()
			w.wait(tagTTL)
			w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					head(rw, r)
					return
				}
				w.mu.Lock()
				o := w.objects[strings.TrimPrefix(r.URL.Path, "/v2/")]
				w.mu.Unlock()
				rw.Header().Set("Content-Type", o.mediaType)
				_, _ = rw.Write(o.data)
			})
			if a := s.get(toolsApp + "1"); name == "no digest" && a.digest() == first {
				t.Error("the tag has moved, and the image is what it was")
			}
			if asked := w.asked(); asked[len(asked)-1] != "HEAD "+appManifests+"1" {
				t.Errorf("asked %v", asked)
			}
		})
	}
}

// TestNamedTagOnce: many clients are one question, whoever of them leaves.
func TestNamedTagOnce(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	w.push("library/app", "1", "one", "amd64")
	release, reached := make(chan struct{}), make(chan struct{}, 1)
	w.answerWith(func(rw http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/1") {
			reached <- struct{}{}
			<-release
		}
		w.mu.Lock()
		o := w.objects[strings.TrimPrefix(r.URL.Path, "/v2/")]
		w.mu.Unlock()
		rw.Header().Set("Content-Type", o.mediaType)
		_, _ = rw.Write(o.data)
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
	if asked := w.asked(); len(asked) != 3 {
		t.Errorf("asked %v, want the tag, the manifest and the config, once each", asked)
	}
}

// TestNamedTagStale: a tag that was pulled before can be pulled while the
// upstream is down or busy, which is asked and logged now and then.
func TestNamedTagStale(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		pause  time.Duration
	}{
		"429":              {status(429, "Retry-After", "3600"), maxPause},
		"429 for a moment": {status(429, "Retry-After", "20"), 20 * time.Second},
		"503":              {status(503, "Retry-After", "3600"), maxPause},
		"502 and no word":  {status(502), minPause},
		"no answer":        {func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, minPause},
		"not HTTP": {func(rw http.ResponseWriter, _ *http.Request) {
			conn, _, _ := http.NewResponseController(rw).Hijack()
			conn.Close()
		}, minPause},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s := w.start()
			w.push("library/app", "1", "one", "amd64")
			want := s.get(toolsApp + "1").digest()
			w.asked()
			w.answerWith(test.answer)
			w.wait(tagTTL)
			for round := 1; round <= 2; round++ {
				for range 20 {
					a := s.get(toolsApp + "1")
					if a.digest() != want || !strings.HasPrefix(a.header.Get("Warning"), "110 ") {
						t.Fatalf("digest %s, headers %v", a.digest(), a.header)
					}
				}
				if asked := w.asked(); len(asked) == 0 || len(asked) > 5 || asked[0] != "HEAD "+appManifests+"1" { // with retries
					t.Errorf("asked %v", asked)
				}
				if n := s.logged("upstream unavailable, serving the last known tag"); n != round {
					t.Errorf("%d lines in the log, want %d", n, round)
				}
				w.wait(test.pause)
			}
			w.answerWith(nil)
			if a := s.get(toolsApp + "1"); a.header.Get("Warning") != "" {
				t.Error("the warning stays when the upstream is back")
			}
			w.answerWith(test.answer)
			w.wait(maxStale)
			if a := s.do("GET", toolsApp+"1"); a.status < 400 {
				t.Errorf("status %d a week later", a.status)
			}
			// By digest it is what it was.
			pull(t, "tools/library/app", want.String(), func() *replica { w.answerWith(nil); return s }())
		})
	}
}

// TestNamedTagRefused: what the upstream says is never hidden by what it said.
func TestNamedTagRefused(t *testing.T) {
	for name, test := range map[string]struct {
		upstream, status int
	}{"not found": {404, 404}, "unauthorized": {401, 403}, "forbidden": {403, 403}} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s, other := w.start(), w.start()
			w.push("library/app", "1", "one", "amd64")
			want := s.get(toolsApp + "1").digest()
			if other.get(toolsApp+"1").digest() != want {
				t.Fatal("the servers differ")
			}
			w.wait(tagTTL)
			w.asked()
			w.answerWith(status(test.upstream))
			for range 20 {
				if a := s.do("GET", toolsApp+"1"); a.status != test.status {
					t.Fatalf("status %d, %s; want %d", a.status, a.body, test.status)
				}
			}
			w.wantAsked("HEAD " + appManifests + "1")
			// Nor when the upstream is down afterwards, and at no other server.
			w.answerWith(status(503, "Retry-After", "3600"))
			w.wait(refusedTTL)
			for _, r := range []*replica{s, other, w.start()} {
				if a := r.do("GET", toolsApp+"1"); a.status != 502 {
					t.Errorf("status %d, %s", a.status, a.body)
				}
			}
			if a := s.do("GET", toolsApp+want.String()); a.status != 200 {
				t.Errorf("the digest that was advertised: status %d", a.status)
			}
			w.answerWith(nil)
			w.wait(maxPause)
			if a := s.get(toolsApp + "1"); a.digest() != want {
				t.Error("the tag is back, and is something else")
			}
		})
	}
}

// TestNamedTagUncached: without anything to fall back on, the message says what
// is wrong, and the upstream is left alone for a moment.
func TestNamedTagUncached(t *testing.T) {
	for name, test := range map[string]struct {
		upstream   http.HandlerFunc
		status     int
		retryAfter string
		text       string
	}{
		"429": {status(429, "Retry-After", "77"), 429, "77", "429 Too Many Requests"},
		"503": {status(503, "Retry-After", "77"), 502, "77", "503 Service Unavailable"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			s := w.start()
			w.answerWith(test.upstream)
			for range 50 {
				a := s.do("GET", toolsApp+"1")
				if a.status != test.status || a.header.Get("Retry-After") != test.retryAfter || !strings.Contains(string(a.body), test.text) || !strings.Contains(string(a.body), "docker.io/library/app:1") {
					t.Fatalf("status %d, Retry-After %q, %s", a.status, a.header.Get("Retry-After"), a.body)
				}
			}
			w.wantAsked("GET " + appManifests + "1")
		})
	}
}

// TestNamedTagRefusedElsewhere: a refusal counts for servers that have another
// recipe in force, too, as in the middle of a reload.
func TestNamedTagRefusedElsewhere(t *testing.T) {
	w := newWorld(t)
	w.push("library/app", "1", "one", "amd64")
	old, _ := w.Recipe("tools")
	w.start().get(toolsApp + "1")
	reloaded := old
	reloaded.Env = []string{"NEW=1"}
	w.set("tools", reloaded)
	w.wait(tagTTL)
	w.answerWith(status(403))
	if a := w.start().do("GET", toolsApp+"1"); a.status != 403 {
		t.Errorf("status %d", a.status)
	}
	w.set("tools", old)
	w.answerWith(status(503))
	if a := w.start().do("GET", toolsApp+"1"); a.status != 502 {
		t.Errorf("status %d for a tag that was refused since", a.status)
	}
	w.records.written()
	w.answerWith(status(404))
	w.start().do("GET", toolsApp+"1")
	w.start().do("GET", toolsApp+"never")
	if n := w.records.written(); n != 0 {
		t.Errorf("%d records about nothing", n)
	}
}

// TestNamedTagUnfit: an image that this server does not take is not asked for
// again at once.
func TestNamedTagUnfit(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	config := w.put("library/app", "blobs", object{ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}`)})
	// More than is kept in memory.
	large := strings.Repeat("x", 128<<10)
	w.put("library/app", "manifests", object{ocispec.MediaTypeImageManifest,
		[]byte(`{"schemaVersion":2,"config":` + string(encode(t, config.descriptor())) + `,"layers":[{"digest":"abc","size":1}],"annotations":{"a":"` + large + `"}}`)}, "1")
	for range 5 {
		if a := s.do("GET", toolsApp+"1"); a.status != 400 {
			t.Fatalf("status %d, %s", a.status, a.body)
		}
	}
	w.wantAsked("GET "+appManifests+"1", "GET library/app/blobs/"+config.digest().String())
}

// TestNamedTagMovesInside: a tag may move to a manifest of the index that it named
// before, whose digests are known as that index's.
func TestNamedTagMovesInside(t *testing.T) {
	w := newWorld(t)
	s := w.start()
	img := w.push("library/app", "1", "one", "amd64", "arm64")
	index := s.get(toolsApp + "1")
	w.put("library/app", "manifests", img.children[0], "1")
	w.wait(tagTTL + time.Second)
	for name, s := range map[string]*replica{"the same server": s, "another": w.start()} {
		a := s.get(toolsApp + "1")
		if a.digest() == index.digest() || a.header.Get("Content-Type") != ocispec.MediaTypeImageManifest {
			t.Errorf("%s: the tag is %s, a %s", name, a.digest(), a.header.Get("Content-Type"))
		}
		if again := s.get(toolsApp + index.digest().String()); !bytes.Equal(again.body, index.body) {
			t.Errorf("%s: the index is not what it was", name)
		}
	}
}
