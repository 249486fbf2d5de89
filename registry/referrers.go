package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// serveReferrers lists the provenance of a manifest of the image. The list is
// empty for any other digest, and for a nil image, and never a 404 (OCI
// distribution specification, "Listing Referrers"). The upstream's referrers of
// the base image are left out, because they are not about this image.
func serveReferrers(w http.ResponseWriter, r *http.Request, img *image, subject digest.Digest) error {
	list := []ocispec.Descriptor{}
	if img != nil {
		a, ok, err := img.attestationOf(r.Context(), subject)
		if err != nil {
			return err
		}
		if ok {
			list = append(list, a.descriptor())
		}
	}
	if wanted := r.URL.Query().Get("artifactType"); wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
		if wanted != inTotoType {
			list = []ocispec.Descriptor{}
		}
	}
	return serveJSON(w, r, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: list,
	})
}

// serveNamedReferrers records the image before it lists the digests of its
// provenance, so that every server that shares the store serves them.
func (s *Server) serveNamedReferrers(w http.ResponseWriter, r *http.Request, img *image, q namedRepository, subject digest.Digest) error {
	if img != nil && img.hasProvenance() {
		var err error
		if img, err = s.named.ledger.record(r.Context(), q, img); err != nil {
			return err
		}
	}
	return serveReferrers(w, r, img, subject)
}
