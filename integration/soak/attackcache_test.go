package soak

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

type digestOf = digest.Digest

func (r *registry) setBlob(f func(w http.ResponseWriter, r *http.Request, d digest.Digest) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.blob = f
}

// drip sends n bytes each pause until the request ends.
func drip(w http.ResponseWriter, r *http.Request, n int, pause time.Duration) {
	for r.Context().Err() == nil {
		if _, err := w.Write(make([]byte, n)); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		time.Sleep(pause)
	}
}

// foreignDigests lists the layers of other tenants in images of the attacker's
// registry. That registry claims to have them and sends other bytes.
func foreignDigests(ctx context.Context, s *soak) {
	s.evil.setBlob(func(w http.ResponseWriter, r *http.Request, d digest.Digest) bool {
		if r.Method == http.MethodHead {
			w.Header().Set("Content-Length", fmt.Sprint(s.Secret[d]))
			return s.Secret[d] > 0
		}
		return false // the registry then sends the blob, or 404
	})
	var layers []ocispec.Descriptor
	for d, size := range s.Secret {
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: d, Size: size})
	}
	s.evil.publish("foreign/app", "1", "foreign", layers...)
	s.repeat(ctx, 4, func(ctx context.Context, c *client, i int) {
		repository := "/v2/wt/tools/evil.test/foreign/app"
		if i%2 == 0 {
			var err error
			if repository, err = c.submit(ctx, submission(s.Evil+"/foreign/app:1", "A=1")); err != nil {
				return
			}
		}
		_, _, _ = c.do(ctx, "GET", repository+"/manifests/1", nil)
		for _, l := range layers {
			status, data, err := c.do(ctx, "GET", repository+"/blobs/"+l.Digest.String(), nil)
			if err == nil && status == http.StatusOK && digest.FromBytes(data) == l.Digest {
				s.foreign.Add(int64(len(data)))
			}
		}
	})
}

// decoy publishes an image at the attacker's registry that lists the layers of
// the honest clients' image, and requests them all the time.
func (s *soak) decoy(ctx context.Context, name string, size func(int64) int64, answer http.HandlerFunc) {
	s.evil.setBlob(func(w http.ResponseWriter, r *http.Request, d digest.Digest) bool {
		if _, isConfig := s.evil.has("/v2/decoy/" + name + "/blobs/" + d.String()); isConfig {
			return false
		}
		if r.Method == http.MethodHead {
			return true
		}
		answer(w, r)
		return true
	})
	layers := make([]ocispec.Descriptor, len(s.Layers))
	for i, l := range s.Layers {
		l.Size = size(l.Size)
		layers[i] = l
	}
	s.evil.publish("decoy/"+name, "1", name, layers...)
	s.repeat(ctx, 8, func(ctx context.Context, c *client, i int) {
		repository, err := c.submit(ctx, submission(s.Evil+"/decoy/"+name+":1", "A=1"))
		if err != nil {
			return
		}
		short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		defer cancel()
		_, _, _ = c.do(short, "GET", repository+"/blobs/"+layers[i%len(layers)].Digest.String(), nil)
	})
}

func (r *registry) has(path string) (document, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, ok := r.documents[path]
	return d, ok
}

// trickling sends the honest clients' layers a byte at a time.
func trickling(ctx context.Context, s *soak) {
	s.decoy(ctx, "trickle", func(n int64) int64 { return n }, func(w http.ResponseWriter, r *http.Request) { drip(w, r, 1, time.Second) })
}

// otherSizes lists the honest clients' layers with wrong sizes.
func otherSizes(ctx context.Context, s *soak) {
	s.decoy(ctx, "sizes", func(n int64) int64 { return n + 1 }, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(strings.Repeat("x", 100)))
	})
}

// claimedSizes requests layers that claim to fill the cache, and of which the
// registry sends nearly nothing.
func claimedSizes(ctx context.Context, s *soak) {
	s.evil.setBlob(func(w http.ResponseWriter, r *http.Request, d digest.Digest) bool {
		if _, isConfig := s.evil.has("/v2/claims/app/blobs/" + d.String()); isConfig {
			return false
		}
		w.Header().Set("Content-Length", fmt.Sprint(s.CacheSize/2))
		drip(w, r, 2, time.Second)
		return true
	})
	var layers []ocispec.Descriptor
	for i := range 50 {
		layers = append(layers, ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromString(fmt.Sprint("claim", i)), Size: s.CacheSize / 2})
	}
	s.evil.publish("claims/app", "1", "claims", layers...)
	s.repeat(ctx, 16, func(ctx context.Context, c *client, i int) {
		repository, err := c.submit(ctx, submission(s.Evil+"/claims/app:1", "A=1"))
		if err != nil {
			return
		}
		short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
		defer cancel()
		_, _, _ = c.do(short, "GET", repository+"/blobs/"+layers[i%len(layers)].Digest.String(), nil)
	})
}

// pinnedManifests requests manifests of thousands of layers by digest, a new one
// each time.
func pinnedManifests(ctx context.Context, s *soak) {
	s.repeat(ctx, 4, func(ctx context.Context, c *client, i int) {
		d := s.evil.putManifest("pinned/app", "1", ocispec.MediaTypeImageManifest, manyLayers(i*10000, 3900))
		_, _, _ = c.do(ctx, "GET", "/v2/wt/tools/evil.test/pinned/app/manifests/"+d.Digest.String(), nil)
	})
}

// sizesAndRanges uses sizes, digests and ranges that violate the specifications.
func sizesAndRanges(ctx context.Context, s *soak) {
	s.evil.putManifest("odd/app", "1", ocispec.MediaTypeImageManifest, encode(map[string]any{
		"schemaVersion": 2, "mediaType": ocispec.MediaTypeImageManifest, "config": ocispec.DescriptorEmptyJSON,
		"layers": []map[string]any{
			{"mediaType": "a/b", "digest": digest.FromString("negative"), "size": -5},
			{"mediaType": "a/b", "digest": "sha256:1", "size": 5}, {"mediaType": "a/b", "digest": "md5:../../x", "size": 1 << 62},
		},
	}))
	s.evil.put("odd/app", []byte("negative"))
	manifest, _ := s.evil.has("/v2/odd/app/manifests/1")
	s.repeat(ctx, 4, func(ctx context.Context, c *client, i int) {
		_, _, _ = c.do(ctx, "GET", "/v2/wt/tools/evil.test/odd/app/manifests/"+digest.FromBytes(manifest.data).String(), nil)
		_, _, _ = c.do(ctx, "GET", "/v2/wt/tools/evil.test/odd/app/blobs/"+digest.FromString("negative").String(), nil)
		req, err := http.NewRequestWithContext(ctx, []string{"GET", "HEAD"}[i%2], s.URL+s.Token+"/blobs/"+s.Layers[i%len(s.Layers)].Digest.String(), nil)
		must(err)
		req.SetBasicAuth(c.user, c.password)
		req.Header.Set("Range", []string{"bytes=-0", "bytes=9223372036854775808-", "bytes=0-9223372036854775808", "bytes=5-1", "bytes=0-0,2-3", "bytes=-9223372036854775809"}[i%6])
		if resp, err := c.Do(req); err == nil {
			resp.Body.Close()
		}
	})
}
