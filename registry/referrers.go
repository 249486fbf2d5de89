package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// serveReferrers lists the provenance of a manifest of the image, which may be
// nil. About any other digest there is nothing to say: that is an empty list,
// never a 404 (OCI distribution specification, "Listing Referrers"). What the
// upstream says about the base image is not about this one.
func serveReferrers(w http.ResponseWriter, r *http.Request, img *image, subject digest.Digest) error {
	list := []ocispec.Descriptor{}
	if img != nil {
		if a, ok := img.attestation(subject); ok {
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

// serveNamedReferrers lets all servers know the digests that it lists, first.
func (s *Server) serveNamedReferrers(w http.ResponseWriter, r *http.Request, img *image, q namedRequest, subject digest.Digest) error {
	if img != nil {
		if a, ok := img.attestation(subject); ok {
			digests := []digest.Digest{a.manifest.Digest, a.statement.Digest, ocispec.DescriptorEmptyJSON.Digest}
			if err := s.named.point(r.Context(), q, img.grant.Root.Digest, digests); err != nil {
				return err
			}
		}
	}
	return serveReferrers(w, r, img, subject)
}

// attestedBlobs serves what the manifests of provenance name: the statement, and
// the config, which is empty.
type attestedBlobs struct{}

func (attestedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	data := ocispec.DescriptorEmptyJSON.Data
	if d != ocispec.DescriptorEmptyJSON.Digest || !img.isMade() {
		a, ok := img.attesting(d)
		if !ok || d != a.statement.Digest {
			return blobstore.ErrNotFound
		}
		data = a.statement.Data
	}
	w.Header().Set(front.SourceHeader, "injected")
	front.RecordOf(r.Context()).Source = "injected"
	blobstore.ServeBytes(w, r, data, ocispec.Descriptor{MediaType: blobType, Digest: d, Size: int64(len(data))})
	return nil
}
