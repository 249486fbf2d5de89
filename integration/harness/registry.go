package harness

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// BlobOf returns the last layer of an image in the form of a request's layer.
func BlobOf(t *testing.T, reg *upstream.Server, image string) Layer {
	t.Helper()
	img := Pull(t, reg.Host+"/"+image, "amd64")
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	last, diffIDs := manifest.Layers[len(manifest.Layers)-1], MustConfig(t, img).RootFS.DiffIDs
	repository, _, _ := strings.Cut(image, ":")
	return Layer{
		Location:   "docker://registry-1.docker.io/v2/" + repository + "/blobs/" + last.Digest.String(),
		GzipDigest: last.Digest.String(),
		GzipSize:   int(last.Size),
		TarDigest:  diffIDs[len(diffIDs)-1].String(),
	}
}

// PushAliases pushes a test image under other names: "ubuntu:latest" in library/,
// "org/tool:1" as it stands.
func PushAliases(t *testing.T, reg *upstream.Server, image string, names ...string) {
	t.Helper()
	upstream.Push(t, reg.Host, image)
	for _, name := range names {
		if !strings.Contains(name, "/") {
			name = "library/" + name
		}
		if err := crane.Copy(reg.Host+"/library/"+image, reg.Host+"/"+name, crane.Insecure, crane.WithContext(t.Context())); err != nil {
			t.Fatal(err)
		}
	}
}

// PushLayers pushes an image for linux/amd64 that consists of the layers.
func PushLayers(t *testing.T, reg *upstream.Server, name string, layers ...Layer) {
	t.Helper()
	img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		if img, err = mutate.AppendLayers(img, tarLayer{static.NewLayer(l.Archive, types.DockerLayer), l.TarDigest}); err != nil {
			t.Fatal(err)
		}
	}
	if err := crane.Push(img, reg.Host+"/"+name, crane.Insecure, crane.WithContext(t.Context())); err != nil {
		t.Fatal(fmt.Errorf("push %s: %w", name, err))
	}
}

// tarLayer is a static layer that knows its diff ID.
type tarLayer struct {
	v1.Layer
	diffID string
}

func (l tarLayer) DiffID() (v1.Hash, error) { return v1.NewHash(l.diffID) }

// Puller returns a user with secrets of its own that may only pull
// library/busybox.
func Puller(label string) upstream.User {
	return upstream.User{Name: "ci-" + label, Password: SecretFor(label), IdentityToken: SecretFor(label + "-identity"), Repositories: []string{"library/busybox"}}
}

// Pusher returns a user that may push everything.
func Pusher() upstream.User {
	return upstream.User{Name: "push", Password: SecretFor("push"), Repositories: []string{"*"}, Push: true}
}

// BaseImages are the kinds of base images that every kind of pull must work for.
var BaseImages = []string{"busybox:docker", "busybox:oci", "busybox:docker-multi", "busybox:multi", "busybox:zstd", "busybox:layers60", "busybox:nohistory", "busybox:entry"}
