package augment

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// recording is an image as another implementation augmented it: an oracle for
// the meaning of an augmented image, not for its bytes.
type recording struct {
	Request struct {
		Image, Reference, ContainerPlatform string
		ContainerConfig                     *struct {
			Entrypoint, Cmd, Env []string
			WorkingDir           string
			Layers               []struct {
				Location              string
				GzipDigest, TarDigest digest.Digest
				GzipSize              int64
			}
		}
	}
	Upstream map[string]struct {
		Headers map[string]string
		Body    string
	}
	Expect struct {
		SourceDigest, TargetDigest digest.Digest
		Store                      map[string]struct{ MediaType, Body string }
		Error                      *struct{ Type string }
	}
}

var fusionLayer = regexp.MustCompile(`/fusion-(\w+)\.tar\.gz$`)

func (r recording) recipe() Recipe {
	var recipe Recipe
	if c := r.Request.ContainerConfig; c != nil {
		recipe = Recipe{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir}
		for _, l := range c.Layers {
			layer := Layer{Digest: l.GzipDigest, Size: l.GzipSize, DiffID: l.TarDigest}
			if m := fusionLayer.FindStringSubmatch(l.Location); m != nil {
				layer.Platform = "linux/" + m[1]
			}
			recipe.Layers = append(recipe.Layers, layer)
		}
	}
	return recipe
}

// source serves the recorded upstream.
func (r recording) source() *memory {
	m := newMemory()
	for path, answer := range r.Upstream {
		name := path[strings.LastIndexByte(path, '/')+1:]
		o := Object{MediaType: answer.Headers["content-type"], Digest: digest.FromString(answer.Body), Data: []byte(answer.Body)}
		m.objects[name] = o
		m.objects[o.Digest.String()] = o
	}
	return m
}

// meaning is the part of an image that must agree: its content and how it starts.
type meaning struct {
	Layers             []string // digest and size, in order
	DiffIDs            []string
	Entrypoint, Cmd    []string
	WorkingDir         string
	Env                map[string]string // effective: the last of equal keys
	Architecture, User string
}

func meaningOf(t *testing.T, manifest, config []byte) meaning {
	t.Helper()
	var m ocispec.Manifest
	var c ocispec.Image
	for data, v := range map[string]any{string(manifest): &m, string(config): &c} {
		if err := json.Unmarshal([]byte(data), v); err != nil {
			t.Fatalf("%v: %s", err, data)
		}
	}
	out := meaning{Entrypoint: c.Config.Entrypoint, Cmd: c.Config.Cmd, WorkingDir: c.Config.WorkingDir, Env: map[string]string{}, Architecture: c.Architecture, User: c.Config.User}
	for _, l := range m.Layers {
		out.Layers = append(out.Layers, l.Digest.String())
	}
	for _, d := range c.RootFS.DiffIDs {
		out.DiffIDs = append(out.DiffIDs, d.String())
	}
	for _, e := range c.Config.Env {
		k, v, _ := strings.Cut(e, "=")
		out.Env[k] = v
	}
	return out
}

// images returns the meaning of each image by platform, from a root down.
func images(t *testing.T, root digest.Digest, get func(digest.Digest) []byte) map[string]meaning {
	t.Helper()
	refs, err := Object{Data: get(root)}.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if refs.Config != nil {
		m := meaningOf(t, get(root), get(refs.Config.Digest))
		return map[string]meaning{m.Architecture: m}
	}
	all := map[string]meaning{}
	for _, child := range refs.Manifests {
		maps.Copy(all, images(t, child.Digest, get))
	}
	return all
}

func TestOracle(t *testing.T) {
	paths, err := filepath.Glob("testdata/wave/*.json")
	if err != nil || len(paths) < 8 {
		t.Fatalf("recordings: %d, %v", len(paths), err)
	}
	for _, path := range paths {
		t.Run(filepath.Base(path), func(t *testing.T) {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var r recording
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatal(err)
			}
			platforms, err := ParsePlatforms(r.Request.ContainerPlatform)
			if err != nil {
				t.Fatal(err)
			}
			src := r.source()
			got, err := NewAugmenter(125).Apply(t.Context(), src, Request{Name: "docker.io/library/foo:latest", Reference: r.Request.Reference,
				Recipe: r.recipe(), Platforms: platforms, Archives: src, AddedIndex: src.added})
			if err != nil {
				t.Fatal(err)
			}
			mine := map[digest.Digest][]byte{}
			for _, o := range got.Objects {
				mine[o.Digest] = o.Data
			}
			compare(t, r, got, mine)
		})
	}
}

func compare(t *testing.T, r recording, got *Image, mine map[digest.Digest][]byte) {
	t.Helper()
	if r.Expect.Error != nil {
		// The other implementation fails on images that are legal: a manifest
		// without mediaType, a config without config. Ours must add the layers.
		for arch, m := range images(t, got.Root.Digest, func(d digest.Digest) []byte { return mine[d] }) {
			want := r.recipe()
			if n := len(want.Layers); !slices.Equal(m.DiffIDs[len(m.DiffIDs)-n:], []string{want.Layers[0].DiffID.String()}) {
				t.Errorf("%s: diff IDs %v", arch, m.DiffIDs)
			}
		}
		return
	}
	if got.Base != r.Expect.SourceDigest {
		t.Errorf("base %s, want %s", got.Base, r.Expect.SourceDigest)
	}
	theirs := map[digest.Digest][]byte{}
	for path, o := range r.Upstream {
		theirs[digest.Digest(path[strings.LastIndexByte(path, '/')+1:])] = []byte(o.Body)
	}
	for path, o := range r.Expect.Store {
		theirs[digest.Digest(path[strings.LastIndexByte(path, '/')+1:])] = []byte(o.Body)
	}
	want := images(t, r.Expect.TargetDigest, func(d digest.Digest) []byte { return theirs[d] })
	if r.Request.ContainerConfig == nil {
		if got.Root.Digest != r.Expect.TargetDigest {
			t.Errorf("nothing was asked for, and %s became %s", r.Expect.TargetDigest, got.Root.Digest)
		}
		return
	}
	// The other implementation keeps unaugmented images for other platforms in an
	// index. Ours drops them, so that no client gets an image that was not
	// augmented.
	platform, err := ParsePlatform(r.Request.ContainerPlatform)
	if err != nil {
		t.Fatal(err)
	}
	maps.DeleteFunc(want, func(arch string, _ meaning) bool { return arch != platform.Architecture })
	if diff := cmp.Diff(want, images(t, got.Root.Digest, func(d digest.Digest) []byte { return mine[d] })); diff != "" {
		t.Errorf("(-recorded +ours):\n%s", diff)
	}
}
