package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
)

// hasProvenance reports whether we augmented the image and its grant records
// which server did.
func (img *image) hasProvenance() bool {
	return !img.grant.Recipe.IsZero() && img.grant.Builder.ID != ""
}

// attestationOf returns the provenance of one of the image's manifests or indexes.
func (img *image) attestationOf(subject digest.Digest) (attestation, bool) {
	desc, ok := img.manifests.get(subject)
	if !ok || !img.hasProvenance() {
		return attestation{}, false
	}
	return attest(*img.grant, desc), true
}

// attestationWith returns the provenance whose manifest or statement has the
// digest. The documents are computed each time, which costs less than keeping
// them.
func (img *image) attestationWith(d digest.Digest) (attestation, bool) {
	subject, ok := img.subjects()[d]
	if !ok {
		return attestation{}, false
	}
	return img.attestationOf(subject)
}

// provenanceSubjects computes image.subjects.
func (img *image) provenanceSubjects() map[digest.Digest]digest.Digest {
	subjects := map[digest.Digest]digest.Digest{}
	for subject := range img.manifests {
		if a, ok := img.attestationOf(subject); ok {
			subjects[a.manifest.Digest], subjects[a.statement.Digest] = subject, subject
		}
	}
	return subjects
}

// attestedBlobs serves the blobs that the manifests of provenance name: the
// statement, and the config, which is empty.
type attestedBlobs struct{}

func (attestedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	data := ocispec.DescriptorEmptyJSON.Data
	if d != ocispec.DescriptorEmptyJSON.Digest || !img.hasProvenance() {
		a, ok := img.attestationWith(d)
		if !ok || d != a.statement.Digest {
			return errDecline
		}
		data = a.statement.Data
	}
	noteInjected(w, r)
	return blobstore.ServeBytes(w, r, data, ocispec.Descriptor{MediaType: blobType, Digest: d, Size: int64(len(data))})
}
