package upstream

import (
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// refusingHead answers HEAD of some paths with h, and serves the manifest and the blob
// otherwise.
func refusingHead(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodHead:
			h(w, r)
		case r.URL.Path == blobPath:
			serveBlob(w, r)
		default:
			serveManifest(w, r)
		}
	}
}

// TestGetDecides: where HEAD is refused in any way, GET says what a tag names and
// whether a blob may be read, and HEAD is left out from then on.
func TestGetDecides(t *testing.T) {
	storage := newServer(t, status(http.StatusForbidden)) // as of a URL that is signed for GET
	for name, head := range map[string]http.HandlerFunc{
		"400": status(400), "401": status(401), "403": status(403), "404": status(404), "405": status(405, "Allow", "GET"),
		"406": status(406), "410": status(410), "415": status(415), "501": status(501), "204": status(204), "304": status(304),
		"a storage that refuses": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, storage.URL+"/blob", http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, refusingHead(head))
			o := listed(s)
			o.Registries["storage.test"] = Registry{URL: storage.URL}
			c, _ := newClient(t, o)
			r := c.Repository(image)
			for range 3 {
				d, got, err := r.Digest(t.Context(), "1.0")
				if err != nil || got == nil || d != digest.FromBytes(manifestBody) || got.Digest != d {
					t.Fatalf("the tag names %s, %v: %v", d, got, err)
				}
			}
			s.WantAnyOrder(t, "HEAD "+manifestPath, "GET "+manifestPath, "GET "+manifestPath, "GET "+manifestPath)
			for range 2 {
				if _, err := r.BlobHead(t.Context(), blobDesc); err != nil {
					t.Fatal(err)
				}
			}
			s.WantAnyOrder(t, "HEAD "+blobPath, "GET "+blobPath, "GET "+blobPath)
			// Another repository of the registry may be served by another program.
			if _, _, err := c.Repository(auth.Target{Registry: "example.org", Repository: "team/other"}).Digest(t.Context(), "1.0"); err != nil {
				t.Fatal(err)
			}
			s.WantAnyOrder(t, "HEAD /v2/team/other/manifests/1.0", "GET /v2/team/other/manifests/1.0")
		})
	}
}

// TestGetIsRefusedToo: a refusal of GET is the answer, after two requests, and is not
// remembered.
func TestGetIsRefusedToo(t *testing.T) {
	for code, want := range map[int]Kind{400: Failed, 403: Unauthorized, 404: NotFound, 405: Failed} {
		s := newServer(t, status(code))
		c, _ := newClient(t, listed(s))
		for range 2 {
			_, _, err := c.Repository(image).Digest(t.Context(), "1.0")
			if e := wantError(t, err, want, "pull manifest"); e.Status != code {
				t.Errorf("status %d, want %d", e.Status, code)
			}
			s.WantAnyOrder(t, "HEAD "+manifestPath, "GET "+manifestPath)
		}
		_, err := c.Repository(image).BlobHead(t.Context(), blobDesc)
		wantError(t, err, want, "pull blob")
		s.WantAnyOrder(t, "HEAD "+blobPath, "GET "+blobPath)
	}
}

// TestBusyHeadIsNoRefusal: a registry that is busy or broken is not asked again with
// GET.
func TestBusyHeadIsNoRefusal(t *testing.T) {
	for code, want := range map[int]Kind{429: RateLimited, 500: Failed, 503: Failed} {
		s := newServer(t, upstreamtest.Status(code, "Retry-After", "3600"))
		c, _ := newClient(t, listed(s))
		_, _, err := c.Repository(image).Digest(t.Context(), "1.0")
		wantError(t, err, want)
		s.WantAnyOrder(t, "HEAD "+manifestPath)
	}
}
