package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
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
		a, ok, _ := img.attestationOf(t.Context(), digest.FromString(fmt.Sprint("manifest", i)))
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

// TestStatementsAreCharged: the provenance that is made for a request is charged to it
// until it has ended, as large as it is when it is encoded.
func TestStatementsAreCharged(t *testing.T) {
	for name, env := range map[string]string{"letters": "x", "escaped": "<", "many": "="} {
		g := attested()
		g.Tag = t.Name() + name
		for i := range 200 {
			g.Recipe.Env = append(g.Recipe.Env, fmt.Sprint("A", i, strings.Repeat(env, 1000), "=1"))
		}
		img := &image{grant: &g, manifests: descriptors{}, late: newLate()}
		img.grantKey = func() digest.Digest { return grantDigest(img) }
		subject := digest.FromString("manifest")
		img.manifests.add(ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: subject, Size: 1})
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 8 << 20, All: 32 << 20}})
		ctx, end := context.WithCancel(budget.With(t.Context(), ledger.Open("a")))
		a, ok, err := img.attestationOf(ctx, subject)
		if !ok || err != nil {
			t.Fatal(name, err)
		}
		size := int64(len(a.statement.Data))
		if held := ledger.Held(budget.Memory); held < 2*size-1000 || held > 2*size+8000 {
			t.Errorf("%s: a statement of %d bytes is charged as %d", name, size, held)
		}
		for err == nil {
			_, _, err = img.attestationWith(ctx, a.statement.Digest)
		}
		if _, full := errors.AsType[*budget.Exceeded](err); !full {
			t.Errorf("%s: statements beyond the client's share: %v", name, err)
		}
		end()
		for start := time.Now(); ledger.Held(budget.Memory) != 0; time.Sleep(time.Millisecond) {
			if time.Since(start) > 10*time.Second {
				t.Fatalf("%s: %d bytes are held after the end", name, ledger.Held(budget.Memory))
			}
		}
	}
}
