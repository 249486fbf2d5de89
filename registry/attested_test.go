package registry

import (
	"fmt"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
)

// TestSubjectsOfLargeImages: a digest that the image names computes no provenance. One
// that it does not name computes the digests of the provenance once for all requests,
// even if the image is loaded anew for each, and every document is found by its digest.
func TestSubjectsOfLargeImages(t *testing.T) {
	const manifests, layers = 500, 50
	grant := attested()
	grant.Tag = t.Name()
	for i := range layers {
		d := digest.FromString(fmt.Sprint("layer", i))
		grant.Recipe.Layers = append(grant.Recipe.Layers, augment.Layer{Digest: d, DiffID: d, Size: 1})
	}
	load := func() *image {
		g := grant // another one of the same content, as after a restart
		img := &image{grant: &g, manifests: descriptors{}, upstream: descriptors{}, late: newLate()}
		img.grantKey = func() digest.Digest { return grantDigest(img) }
		for i := range manifests {
			img.manifests.add(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(fmt.Sprint("manifest", i)), Size: 1})
		}
		img.upstream.add(ocispec.Descriptor{Digest: digest.FromString("layer of the base"), Size: 1})
		return img
	}
	img := load()
	want := func(d digest.Digest, known bool) attestation {
		t.Helper()
		a, ok, err := img.attestationWith(t.Context(), d)
		if err != nil || ok != known {
			t.Fatalf("provenance with %s: %v, %v", d, ok, err)
		}
		return a
	}
	want(digest.FromString("layer of the base"), false)
	want(digest.FromString("manifest1"), false)
	if subjectsKept.Contains(img.grantKey()) {
		t.Error("digests that the image names had provenance computed")
	}
	want(digest.FromString("unknown"), false)
	before := testing.AllocsPerRun(1, func() { want(digest.FromString("unknown"), false) })
	img = load()
	again := testing.AllocsPerRun(1, func() { want(digest.FromString("another"), false) })
	if again > before+100 || again > manifests {
		t.Errorf("%v allocations for the image loaded anew, %v before", again, before)
	}
	for i := range 3 {
		a, ok := img.attestationOf(digest.FromString(fmt.Sprint("manifest", i)))
		if !ok || want(a.manifest.Digest, true).manifest.Digest != a.manifest.Digest || want(a.statement.Digest, true).statement.Digest != a.statement.Digest {
			t.Errorf("provenance of manifest %d: %v", i, ok)
		}
	}
}

// TestManyDigestsAreKept: what is known of the provenance of the largest image is small
// enough to be kept.
func TestManyDigestsAreKept(t *testing.T) {
	g := attested()
	g.Tag = t.Name()
	img := &image{grant: &g, manifests: descriptors{}, late: newLate()}
	img.grantKey = func() digest.Digest { return grantDigest(img) }
	for i := range 1025 {
		img.manifests.add(ocispec.Descriptor{Digest: digest.SHA512.FromString(fmt.Sprint(i)), Size: 1})
	}
	if _, err := subjectsOf(t.Context(), img); err != nil || !subjectsKept.Contains(img.grantKey()) {
		t.Errorf("not kept: %v", err)
	}
}
