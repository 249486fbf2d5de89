package registry

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"runtime"
	"slices"
	"time"
	"unsafe"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// hasProvenance reports whether we augmented the image and its grant records
// which server did.
func (img *image) hasProvenance() bool {
	return !img.grant.Recipe.IsZero() && img.grant.Builder.ID != ""
}

// attestationOf returns the provenance of one of the image's manifests or indexes. It
// is made anew for each request, which is charged for it until it has ended. The error
// is *budget.Exceeded.
func (img *image) attestationOf(ctx context.Context, subject digest.Digest) (a attestation, ok bool, err error) {
	desc, ok := img.manifests.get(subject)
	if !ok || !img.hasProvenance() {
		return attestation{}, false, nil
	}
	made := newAttester(*img.grant)
	if err := budget.HoldFor(ctx, budget.Memory, made.cost()); err != nil {
		return attestation{}, false, err
	}
	return made.attest(desc), true, nil
}

// attestationWith returns the provenance whose manifest or statement has the
// digest. ok is false for any other digest. The error is that of a request that ended,
// whose client waits for too many other images, or *budget.Exceeded.
func (img *image) attestationWith(ctx context.Context, d digest.Digest) (a attestation, ok bool, err error) {
	want, isDigest := prefixOf(d)
	if !isDigest || !img.hasProvenance() || img.names(d) {
		return attestation{}, false, nil
	}
	known, err := subjectsOf(ctx, img)
	if err != nil {
		return attestation{}, false, err
	}
	at, _ := slices.BinarySearchFunc(known, want, func(s provenanceOf, want uint64) int { return cmp.Compare(s.prefix, want) })
	for ; at < len(known) && known[at].prefix == want; at++ {
		a, ok, err = img.attestationOf(ctx, known[at].subject)
		if err != nil || ok && (d == a.manifest.Digest || d == a.statement.Digest) {
			return a, ok, err
		}
	}
	return attestation{}, false, nil
}

// provenanceOf says that provenance whose digest begins with the prefix is of subject.
type provenanceOf struct {
	prefix  uint64
	subject digest.Digest
}

// subjectsKept has the provenanceOf of images, sorted, by the digest of the image's
// grant, on which alone they depend. For the largest images they take a second of
// CPU, and such images are not in memory: so they are kept apart, and computed for few
// clients at a time, which take turns.
var (
	subjectsKept  = sizedlru.New[digest.Digest, []provenanceOf](16<<20, 1<<14, 0)
	subjectsTurns = fairqueue.New(fairqueue.Options{Slots: max(1, runtime.GOMAXPROCS(0)/2), PerClient: 1, Waiting: 256, AllWaiting: 4096})
)

// grantDigest computes image.grantKey.
func grantDigest(img *image) digest.Digest { return digest.FromBytes(mustEncode(img.grant)) }

// subjectsOf returns what provenance the image has. It computes no document. Errors are
// those of attestationWith.
func subjectsOf(ctx context.Context, img *image) ([]provenanceOf, error) {
	if !img.hasProvenance() {
		return nil, nil
	}
	key := img.grantKey()
	if known, ok := subjectsKept.Get(key); ok {
		return known, nil
	}
	leave, err := subjectsTurns.Enter(ctx, "", budget.Party(ctx), "")
	if err != nil {
		return nil, busy(err)
	}
	defer leave()
	if known, ok := subjectsKept.Get(key); ok {
		return known, nil // computed meanwhile
	}
	var known []provenanceOf
	cost := int64(512)
	a := newAttester(*img.grant)
	for subject := range img.manifests {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		desc, _ := img.manifests.get(subject)
		manifest, statement := a.digests(desc)
		cost += textCost(string(subject))
		for _, d := range []digest.Digest{manifest, statement} {
			prefix, _ := prefixOf(d)
			known = append(known, provenanceOf{prefix, subject})
		}
	}
	slices.SortFunc(known, func(a, b provenanceOf) int { return cmp.Compare(a.prefix, b.prefix) })
	subjectsKept.Add(key, known, cost+int64(cap(known))*int64(unsafe.Sizeof(provenanceOf{})))
	return known, nil
}

// busy makes a full queue an answer for clients.
func busy(err error) error {
	if errors.Is(err, fairqueue.ErrFull) || errors.Is(err, fairqueue.ErrAllFull) {
		return front.Limited(time.Second, "too many requests for large images wait: %v", err)
	}
	return err
}

// attestedBlobs serves the blobs that the manifests of provenance name: the
// statement, and the config, which is empty.
type attestedBlobs struct{}

func (attestedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	data := ocispec.DescriptorEmptyJSON.Data
	if d != ocispec.DescriptorEmptyJSON.Digest || !img.hasProvenance() {
		a, ok, err := img.attestationWith(r.Context(), d)
		if err != nil {
			return err
		}
		if !ok || d != a.statement.Digest {
			return errDecline
		}
		data = a.statement.Data
	}
	noteInjected(w, r)
	return blobstore.ServeBytes(w, r, data, ocispec.Descriptor{MediaType: blobType, Digest: d, Size: int64(len(data))})
}
