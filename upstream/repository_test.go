package upstream

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestManifest(t *testing.T) {
	sha256, sha512 := digest.FromBytes(manifestBody), digest.Digest(fmt.Sprintf("sha512:%x", sha512.Sum512(manifestBody)))
	tests := []struct {
		name, ref, contentType, mediaType string
		digest                            digest.Digest
	}{
		{"tag", "1.0", "application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.manifest.v1+json", sha256},
		{"digest", sha256.String(), "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.index.v1+json", sha256},
		{"sha512", sha512.String(), "application/json", "application/json", sha512},
		{"parameters", "1.0", "Application/JSON; charset=utf-8", "application/json", sha256},
		{"malformed parameters", "1.0", "application/json ; charset", "application/json", sha256},
		{"no type", "1.0", "", "", sha256},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/v2/team/app/manifests/"+test.ref || r.Method != http.MethodGet {
					t.Errorf("%s %s", r.Method, r.URL)
				}
				for name, want := range map[string]string{
					"Accept": accept, "Accept-Encoding": "identity", "User-Agent": "waveproxy/test", "Referer": "",
				} {
					if got := r.Header.Get(name); got != want {
						t.Errorf("%s: %q, want %q", name, got, want)
					}
				}
				w.Header()["Content-Type"] = []string{test.contentType}
				w.Header().Set("Docker-Content-Digest", sha256.String())
				_, _ = w.Write(manifestBody)
			})
			c, _ := newClient(t, listed(s))
			o, err := c.Repository(image).Manifest(t.Context(), test.ref)
			if err != nil {
				t.Fatal(err)
			}
			if o.MediaType != test.mediaType || o.Digest != test.digest || !bytes.Equal(o.Data, manifestBody) {
				t.Errorf("got %q %s %q", o.MediaType, o.Digest, o.Data)
			}
			if n := len(s.TakeLines()); n != 1 {
				t.Errorf("%d requests, want 1", n)
			}
		})
	}
}

// endless sends zeros until the client stops reading.
func endless(w http.ResponseWriter, _ *http.Request) {
	zeros := make([]byte, 64<<10)
	for {
		if _, err := w.Write(zeros); err != nil {
			return
		}
	}
}

func sized(n int) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, n)) }
}

// cut announces more than it sends.
func cut(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Length", "1000")
	_, _ = w.Write(manifestBody)
	w.(http.Flusher).Flush()
	panic(http.ErrAbortHandler)
}

// claiming serves the manifest with a Docker-Content-Digest.
func claiming(d digest.Digest) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Docker-Content-Digest", d.String())
		serveManifest(w, r)
	}
}

// TestHarmlessDigestHeaders: a Docker-Content-Digest that is none, or has another
// algorithm and the right bytes, is no reason to refuse, nor is that of schema 1.
func TestHarmlessDigestHeaders(t *testing.T) {
	for _, d := range []digest.Digest{"", "sha256:1", "none", digest.SHA512.FromBytes(manifestBody), digest.SHA384.FromBytes(manifestBody)} {
		c, _ := newClient(t, listed(newServer(t, claiming(d))))
		wantManifest(t, c, image)
	}
	c, _ := newClient(t, listed(newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.docker.distribution.manifest.v1+prettyjws")
		w.Header().Set("Docker-Content-Digest", digest.FromString("the signed part").String())
		_, _ = w.Write(manifestBody)
	})))
	wantManifest(t, c, image)
}

func TestUnusableManifests(t *testing.T) {
	tests := []struct {
		name    string
		ref     string
		handler http.HandlerFunc
		says    string
	}{
		{"endless", "1.0", endless, "more than the 4194304 bytes"},
		{"announced as too big", "1.0", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "5000000")
			w.WriteHeader(http.StatusOK)
		}, "5000000 bytes"},
		{"empty", "1.0", sized(0), "empty"},
		{"other bytes than asked for", digest.FromString("x").String(), serveManifest, digest.FromBytes(manifestBody).String()},
		{"cut off", "1.0", cut, "cut the answer off"},
		{"a digest of other bytes", "1.0", claiming(digest.FromString("a lie")), digest.FromString("a lie").String()},
		{"a digest of other bytes, by digest", digest.FromBytes(manifestBody).String(), claiming(digest.FromString("x")), "mixes answers up"},
		{"a sha512 of other bytes", "1.0", claiming(digest.SHA512.FromString("x")), "Docker-Content-Digest"},
		{"no reference", "../1.0?x", serveManifest, "neither a tag nor a digest"},
		{"unknown algorithm", "md5:d41d8cd98f00b204e9800998ecf8427e", serveManifest, "neither a tag nor a digest"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, test.handler)
			c, _ := newClient(t, listed(s))
			o, err := c.Repository(image).Manifest(t.Context(), test.ref)
			if err == nil {
				t.Fatalf("no error, but %d bytes", len(o.Data))
			}
			wantError(t, err, Invalid, test.says)
		})
	}
	t.Run("4 MiB are read", func(t *testing.T) {
		s := newServer(t, sized(maxObject))
		c, _ := newClient(t, listed(s))
		if o, err := c.Repository(image).Manifest(t.Context(), "1.0"); err != nil || len(o.Data) != maxObject {
			t.Errorf("%d bytes, %v", len(o.Data), err)
		}
	})
}

func TestBlob(t *testing.T) {
	config := []byte(`{"os":"linux"}`)
	desc := ocispec.Descriptor{MediaType: "application/vnd.oci.image.config.v1+json", Digest: digest.FromBytes(config), Size: int64(len(config))}
	with := func(change func(*ocispec.Descriptor)) ocispec.Descriptor {
		d := desc
		change(&d)
		return d
	}
	serve := func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(config) }
	tests := []struct {
		name    string
		desc    ocispec.Descriptor
		handler http.HandlerFunc
		want    Kind
		says    string
	}{
		{"right", desc, serve, 0, ""},
		{"another size", with(func(d *ocispec.Descriptor) { d.Size++ }), serve, Invalid, "sent 14 bytes, but the manifest says 15"},
		{"another digest", with(func(d *ocispec.Descriptor) { d.Digest = digest.FromString("x") }), serve, Invalid, desc.Digest.String()},
		{"too big by its descriptor", with(func(d *ocispec.Descriptor) { d.Size = maxObject + 1 }), serve, Invalid, "4194305"},
		{"not a digest", with(func(d *ocispec.Descriptor) { d.Digest = "../../x" }), serve, Invalid, "not a digest"},
		{"endless", desc, endless, Invalid, "more than"},
		{"cut off", desc, cut, Invalid, "cut the answer off"},
		{"absent", desc, status(404), NotFound, "pull blob example.org/team/app@" + desc.Digest.String() + ": "},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, test.handler)
			c, _ := newClient(t, listed(s))
			o, err := c.Repository(image).Blob(t.Context(), test.desc)
			if test.want != 0 {
				wantError(t, err, test.want, test.says)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if o.MediaType != desc.MediaType || o.Digest != desc.Digest || !bytes.Equal(o.Data, config) {
				t.Errorf("got %+v", o)
			}
			s.WantRequests(t, "GET /v2/team/app/blobs/"+desc.Digest.String())
		})
	}
}

func TestLayerIsReadAsFarAsNeeded(t *testing.T) {
	s := newServer(t, endless)
	c, _ := newClient(t, listed(s))
	r, err := c.Repository(image).Layer(t.Context(), ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 100_000)); err != nil {
		t.Error(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
}

func TestLayerErrors(t *testing.T) {
	s := newServer(t, inTurn(status(404), cut))
	c, _ := newClient(t, listed(s))
	repo := c.Repository(image)
	_, err := repo.Layer(t.Context(), ocispec.Descriptor{Digest: "sha256:short"})
	wantError(t, err, Invalid, "not a digest")
	desc := ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 1000}
	_, err = repo.Layer(t.Context(), desc)
	wantError(t, err, NotFound)
	r, err := repo.Layer(t.Context(), desc)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	wantError(t, err, Invalid, "cut the answer off")
}

func TestDefaultBase(t *testing.T) {
	c, _ := newClient(t, Options{Registries: map[string]Registry{
		"Registry.local:5000": {PlainHTTP: true}, "quay.io": {URL: "https://mirror.example/"},
	}})
	d := digest.FromString("x")
	for host, want := range map[string]string{
		"docker.io":           "https://registry-1.docker.io",
		"ghcr.io":             "https://ghcr.io",
		"quay.io":             "https://mirror.example",
		"registry.local:5000": "http://Registry.local:5000",
	} {
		target := image
		target.Registry = host
		if got := c.Repository(target).blobURL(d).String(); got != want+"/v2/team/app/blobs/"+d.String() {
			t.Errorf("%s: %s", host, got)
		}
	}
}
