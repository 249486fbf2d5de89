package upstream

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"
)

// PushAll pushes every test image to library/ on the registry at host and
// returns their digests, keyed by what follows library/:
//
//	busybox:docker        Docker schema 2, linux/amd64
//	busybox:oci           the same as an OCI image
//	busybox:docker-multi  Docker manifest list: linux/amd64, linux/arm64
//	busybox:multi         OCI index of the same, each with a BuildKit attestation: amd64 in the
//	                      form used up to BuildKit 0.33, arm64 in the form with a subject
//	busybox:zstd          OCI index of both platforms, layers compressed with zstd
//	busybox:layers60      60 layers; /layers/1 to /layers/59 are files, one per upper layer
//	busybox:layers124     two fewer than Docker's own store refuses
//	busybox:layers126     one more than Docker's own store takes
//	busybox:nohistory     a config that has neither history nor config
//	busybox:entry         an entrypoint of several words that announces itself and runs its arguments,
//	                      by default `echo default command`, in /srv/work with GREETING=hello
//	usrmerge:latest       /bin, /lib, /lib64 and /sbin are symlinks in the bottom of two layers
//	schema1:latest        served by every Server, not pushed
//
// All but usrmerge, whose programs are in /usr/bin, have busybox and its applets
// in /bin. /etc/image-arch holds the architecture; images for arm64 hold amd64
// programs nevertheless, so that they run here in engines that allow it.
func PushAll(t testing.TB, host string) map[string]digest.Digest {
	t.Helper()
	images, err := all()
	if err != nil {
		t.Fatalf("build test images: %v", err)
	}
	digests := Push(t, host, slices.Sorted(maps.Keys(images))...)
	_, digests["schema1:latest"] = schema1()
	return digests
}

// Push pushes some of PushAll's images, for tests that need few: the images
// with many layers take most of the time.
func Push(t testing.TB, host string, tags ...string) map[string]digest.Digest {
	t.Helper()
	return push(t, host, tags)
}

// PushAs pushes some of the images as a user with Push set.
func PushAs(t testing.TB, host string, user User, tags ...string) map[string]digest.Digest {
	t.Helper()
	return push(t, host, tags, user.options()...)
}

func push(t testing.TB, host string, tags []string, options ...remote.Option) map[string]digest.Digest {
	t.Helper()
	images, err := all()
	if err != nil {
		t.Fatalf("build test images: %v", err)
	}
	pusher, err := remote.NewPusher(append(options, remote.WithContext(t.Context()))...)
	if err != nil {
		t.Fatal(err)
	}
	digests := map[string]digest.Digest{}
	for _, tag := range tags {
		image, ok := images[tag]
		if !ok {
			t.Fatalf("no test image %q", tag)
		}
		ref, err := name.NewTag(host+"/library/"+tag, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		if err := image.push(t.Context(), pusher, ref); err != nil {
			t.Fatal(err)
		}
		digests[tag] = image.digest()
	}
	return digests
}

// all builds the images once per test binary: compressing is most of the work.
var all = sync.OnceValues(func() (map[string]image, error) {
	box, err := findBusybox()
	if err != nil {
		return nil, err
	}
	amd64, err := gzipLayer(box.rootfs("amd64", "bin"))
	if err != nil {
		return nil, err
	}
	arm64, err := gzipLayer(box.rootfs("arm64", "bin"))
	if err != nil {
		return nil, err
	}
	amd64Zstd, err := zstdLayer(box.rootfs("amd64", "bin"))
	if err != nil {
		return nil, err
	}
	arm64Zstd, err := zstdLayer(box.rootfs("arm64", "bin"))
	if err != nil {
		return nil, err
	}
	merged, err := gzipLayer(box.mergedRootfs("amd64"))
	if err != nil {
		return nil, err
	}
	stack, err := stackOn(amd64, 126)
	if err != nil {
		return nil, err
	}
	shell := v1.Config{
		Cmd:    []string{"sh"},
		Env:    []string{"PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"},
		Labels: map[string]string{"org.example.kind": "test"},
	}
	entry := v1.Config{
		Entrypoint: []string{"/bin/sh", "-c", `echo "entrypoint in $PWD says $GREETING"; exec "$@"`, "entry"},
		Cmd:        []string{"echo", "default", "command"},
		Env:        append(slices.Clone(shell.Env), "GREETING=hello"),
		WorkingDir: "/srv/work",
	}
	dockerPair := []image{docker.image("amd64", shell, amd64), docker.image("arm64", shell, arm64)}
	ociPair := []image{oci.image("amd64", shell, amd64), oci.image("arm64", shell, arm64)}
	zstdPair := []image{oci.image("amd64", shell, amd64Zstd), oci.image("arm64", shell, arm64Zstd)}
	return map[string]image{
		"busybox:docker":       dockerPair[0],
		"busybox:oci":          ociPair[0],
		"busybox:docker-multi": docker.of(dockerPair),
		"busybox:multi":        oci.of(ociPair, attestedByConfig(ociPair[0]), attestedBySubject(ociPair[1])),
		"busybox:zstd":         oci.of(zstdPair),
		"busybox:layers60":     docker.image("amd64", shell, stack[:60]...),
		"busybox:layers124":    docker.image("amd64", shell, stack[:124]...),
		"busybox:layers126":    docker.image("amd64", shell, stack...),
		"busybox:nohistory":    oci.bare("amd64", amd64),
		"busybox:entry":        docker.image("amd64", entry, amd64),
		"usrmerge:latest":      oci.image("amd64", shell, merged, stack[1]),
	}, nil
})

// stackOn returns n layers. The lowest is bottom.
func stackOn(bottom layer, n int) ([]layer, error) {
	layers := []layer{bottom}
	for i := range n - 1 {
		content := fmt.Appendf(nil, "layer %d\n", i+1)
		l, err := gzipLayer([]entry{dir("layers", 0o755), file(fmt.Sprintf("layers/%d", i+1), 0o644, content)})
		if err != nil {
			return nil, err
		}
		layers = append(layers, l)
	}
	return layers, nil
}
