package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"go.uber.org/goleak"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/content/memory"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

func start(t *testing.T) (host string) {
	t.Helper()
	host, stop, err := StartRegistry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return host
}

func linux(arch string) ocispec.Platform { return ocispec.Platform{OS: "linux", Architecture: arch} }

func TestPull(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := start(t)
	for arch := range targets {
		t.Run(arch, func(t *testing.T) {
			p, err := Pull(t.Context(), host+"/"+Repository+":"+Tag, linux(arch))
			if err != nil {
				t.Fatal(err)
			}
			if p.Config.Architecture != arch || len(p.Layers) != 1 || p.Elapsed <= 0 {
				t.Errorf("architecture %s, %d layers, %s", p.Config.Architecture, len(p.Layers), p.Elapsed)
			}
			layer := p.Layers[0]
			if diff := cmp.Diff([]string{"etc/os-release", "hello"}, layer.Files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if layer.MediaType != ocispec.MediaTypeImageLayerGzip || layer.DiffID != p.Config.RootFS.DiffIDs[0] || layer.Elapsed <= 0 {
				t.Errorf("layer %+v", layer)
			}
			hello, err := os.ReadFile(filepath.Join(p.Dir, Program))
			if err != nil {
				t.Fatal(err)
			}
			if message := "Hello from demo/hello:1.0 on linux/" + arch; !bytes.Contains(hello, []byte(message)) {
				t.Errorf("the program does not hold %q", message)
			}
			if arch == runtime.GOARCH {
				run(t, p)
			}
			byDigest, err := Pull(t.Context(), host+"/"+Repository+"@"+p.Manifest.Digest.String(), linux(arch))
			if err != nil {
				t.Fatal(err)
			}
			if byDigest.Manifest.Digest != p.Manifest.Digest {
				t.Errorf("by digest: %s, want %s", byDigest.Manifest.Digest, p.Manifest.Digest)
			}
			for _, p := range []*Pulled{p, byDigest} {
				if err := p.Remove(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	checkEmpty(t, os.Getenv("TMPDIR"))
}

// run executes the image as an engine does, except for the root directory.
func run(t *testing.T, p *Pulled) {
	t.Helper()
	command := exec.CommandContext(t.Context(), filepath.Join(p.Dir, p.Config.Config.Entrypoint[0]))
	command.Env = append(p.Config.Config.Env, "ADDED=yes")
	got, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	want := "Hello from demo/hello:1.0 on linux/" + runtime.GOARCH + ". My environment:\n  " +
		p.Config.Config.Env[0] + "\n  ADDED=yes\n"
	if string(got) != want {
		t.Errorf("wrote %q, want %q", got, want)
	}
}

func checkEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 0 {
		t.Errorf("%v is left in %s", entries, dir)
	}
}

func TestImageIsTheSameOnEveryRun(t *testing.T) {
	var roots []digest.Digest
	for range 2 {
		image, err := buildImage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		root, err := image.Resolve(t.Context(), Tag)
		if err != nil {
			t.Fatal(err)
		}
		roots = append(roots, root.Digest)
	}
	if roots[0] != roots[1] {
		t.Errorf("%s and %s", roots[0], roots[1])
	}
}

func TestImageIndex(t *testing.T) {
	image, err := buildImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	root, err := image.Resolve(t.Context(), Tag)
	if err != nil {
		t.Fatal(err)
	}
	data, err := content.FetchAll(t.Context(), image, root)
	if err != nil {
		t.Fatal(err)
	}
	var index ocispec.Index
	if err := json.Unmarshal(data, &index); err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, d := range index.Manifests {
		got = append(got, d.Platform.OS+"/"+d.Platform.Architecture)
		if about := d.Annotations["vnd.docker.reference.digest"]; about != "" && about != index.Manifests[i-1].Digest.String() {
			t.Errorf("entry %d is about %s, want %s", i, about, index.Manifests[i-1].Digest)
		}
	}
	if diff := cmp.Diff([]string{"linux/amd64", "unknown/unknown", "linux/arm64", "unknown/unknown"}, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// TestPullChecks pulls missing images, and pulls through a server that changes
// the registry's answers.
func TestPullChecks(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	host := start(t)
	p, err := Pull(t.Context(), host+"/"+Repository+":"+Tag, linux("amd64"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Remove(); err != nil {
		t.Fatal(err)
	}
	image, err := buildImage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var manifest ocispec.Manifest
	if err := fetchJSON(t.Context(), image, p.Manifest, &manifest); err != nil {
		t.Fatal(err)
	}
	flip := func(body []byte) []byte { body[len(body)/2] ^= 1; return body }
	tests := []struct {
		name     string
		ref      string // default: Tag
		platform string // default: amd64
		path     string // whose body is changed
		change   func([]byte) []byte
		want     string // part of the error
	}{
		{name: "no such tag", ref: ":2.0", want: "not found"},
		{name: "no such platform", platform: "riscv64", want: "linux/riscv64"},
		{name: "manifest", path: "manifests/" + p.Manifest.Digest.String(), change: flip, want: "manifest: "},
		{name: "config", path: "blobs/" + manifest.Config.Digest.String(), change: flip, want: "config: "},
		{name: "layer", path: "blobs/" + p.Layers[0].Digest.String(), change: flip, want: "layer " + p.Layers[0].Digest.String()},
		{name: "short layer", path: "blobs/" + p.Layers[0].Digest.String(), change: func(b []byte) []byte { return b[:100] }, want: "layer " + p.Layers[0].Digest.String()},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			front := httptest.NewServer(changing(host, test.path, test.change))
			defer front.Close()
			if test.ref == "" {
				test.ref = ":" + Tag
			}
			if test.platform == "" {
				test.platform = "amd64"
			}
			p, err := Pull(t.Context(), strings.TrimPrefix(front.URL, "http://")+"/"+Repository+test.ref, linux(test.platform))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %+v and error %v, want %q", p, err, test.want)
			}
		})
	}
	checkEmpty(t, os.Getenv("TMPDIR"))
}

func TestPullLayerChecks(t *testing.T) {
	b := &builder{ctx: t.Context(), store: memory.New()}
	good, diffID := b.layer([]file{{"a", 0o644, "a"}})
	noGzip := b.blob(ocispec.MediaTypeImageLayerGzip, []byte("not gzip"), nil)
	if b.err != nil {
		t.Fatal(b.err)
	}
	plainType, tooLarge := good, good
	plainType.MediaType = ocispec.MediaTypeImageLayer
	tooLarge.Size = maxLayer + 1
	tests := []struct {
		name   string
		layer  ocispec.Descriptor
		diffID digest.Digest
		want   string
	}{
		{"another diff ID", good, digest.FromString("x"), "the uncompressed digest is " + diffID.String()},
		{"not gzip", noGzip, diffID, "decompress: "},
		{"another media type", plainType, diffID, "is not a gzip-compressed layer"},
		{"too large", tooLarge, diffID, "more than"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if _, err := pullLayer(t.Context(), b.store, test.layer, test.diffID, root); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
			checkEmpty(t, dir)
		})
	}
}

// changing serves what the registry at host does, with one body changed.
func changing(host, path string, change func([]byte) []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request := r.Clone(r.Context())
		request.RequestURI, request.URL.Scheme, request.URL.Host = "", "http", host
		transport := &http.Transport{DisableKeepAlives: true}
		response, err := transport.RoundTrip(request)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		defer response.Body.Close()
		for _, h := range []string{"Content-Type", "Docker-Content-Digest", "Content-Length"} {
			w.Header().Set(h, response.Header.Get(h))
		}
		body, err := io.ReadAll(response.Body)
		if err == nil && change != nil && r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, path) {
			body = change(body)
		}
		w.WriteHeader(response.StatusCode)
		_, _ = w.Write(body)
	})
}

func TestRegistryStopsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	host, stop, err := StartRegistry(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	stop()
	_, err = Pull(t.Context(), host+"/"+Repository+":"+Tag, linux("amd64"))
	if err == nil {
		t.Error("the registry still answers")
	}
	if _, _, err := StartRegistry(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("start with an ended context: %v", err)
	}
}
