package auth

import (
	"strings"
	"testing"

	"github.com/distribution/reference"
)

// TestShortHosts: an image of a registry never becomes one of Docker Hub.
func TestShortHosts(t *testing.T) {
	for _, image := range []string{
		"registry:443/team/app:1", "REGISTRY/team/app:1", "registry:0443/team/app", "Registry:443/app", "cache:443/a@sha256:" + strings.Repeat("0", 64), "HUB/library/x",
	} {
		if ref, err := ParseImage(image); err == nil {
			t.Errorf("%s became %s", image, ref)
		}
	}
	for image, want := range map[string]string{
		"registry:5000/team/app": "registry:5000/team/app", "registry:80/a": "registry:80/a", "REGISTRY.local:443/a": "registry.local/a", "localhost:443/a": "localhost/a",
		"registry/team/app": "docker.io/registry/team/app", "index.docker.io/alpine": "docker.io/library/alpine",
	} {
		ref, err := ParseImage(image)
		if err != nil || reference.TrimNamed(ref).String() != want {
			t.Errorf("%s: %v, %v, want %s", image, ref, err, want)
		}
	}
}

// TestLongImages: names of any length are refused before they are parsed.
func TestLongImages(t *testing.T) {
	for _, part := range []string{"a/", "a.", "-", "a:1/"} {
		if _, err := ParseImage(strings.Repeat(part, 1<<20) + "a"); err == nil || !strings.Contains(err.Error(), "bytes") {
			t.Errorf("%q: %.100v", part, err)
		}
	}
}
