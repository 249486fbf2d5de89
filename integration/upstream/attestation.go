package upstream

import (
	"fmt"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

// attestation is a provenance statement about one image of an index, in
// BuildKit's form: an entry whose platform is unknown/unknown. See
// https://github.com/moby/buildkit/blob/master/docs/attestations/attestation-storage.md
type attestation struct {
	image
	about digest.Digest
}

func (a attestation) descriptor() v1.Descriptor {
	d := a.image.descriptor()
	d.Annotations = map[string]string{
		"vnd.docker.reference.digest": a.about.String(),
		"vnd.docker.reference.type":   "attestation-manifest",
	}
	return d
}

const (
	inTotoType         = types.MediaType("application/vnd.in-toto+json")
	ociEmptyType       = types.MediaType("application/vnd.oci.empty.v1+json")
	attestationType    = "application/vnd.docker.attestation.manifest.v1+json"
	provenanceTemplate = `{"_type":"https://in-toto.io/Statement/v0.1",` +
		`"predicateType":"https://slsa.dev/provenance/v0.2",` +
		`"subject":[{"name":"pkg:docker/busybox","digest":{"sha256":"%s"}}],` +
		`"predicate":{"builder":{"id":""},"buildType":"https://mobyproject.org/buildkit@v1"}}`
)

// attestedByConfig returns an attestation in the form of BuildKit up to 0.33: the
// statement is a layer of an image whose config says unknown/unknown.
func attestedByConfig(i image) attestation {
	statement := provenance(i)
	config := encode(map[string]any{
		"architecture": "unknown",
		"os":           "unknown",
		"config":       map[string]any{},
		"rootfs":       map[string]any{"type": "layers", "diff_ids": []any{digest.FromBytes(statement)}},
	})
	manifest := v1.Manifest{SchemaVersion: 2, MediaType: oci.manifest, Config: describe(oci.config, config)}
	return attest(i, manifest, static.NewLayer(config, oci.config), statement)
}

// attestedBySubject returns an attestation in the form of BuildKit since 0.34: an
// artifact whose subject is the image, with an empty config that is also inline.
func attestedBySubject(i image) attestation {
	empty := []byte("{}")
	config := describe(ociEmptyType, empty)
	config.Data = empty
	subject := i.descriptor()
	subject.Platform = nil
	manifest := v1.Manifest{
		SchemaVersion: 2,
		MediaType:     oci.manifest,
		ArtifactType:  attestationType,
		Config:        config,
		Subject:       &subject,
	}
	return attest(i, manifest, static.NewLayer(empty, ociEmptyType), provenance(i))
}

func attest(i image, manifest v1.Manifest, config v1.Layer, statement []byte) attestation {
	layer := describe(inTotoType, statement)
	layer.Annotations = map[string]string{"in-toto.io/predicate-type": "https://slsa.dev/provenance/v0.2"}
	manifest.Layers = []v1.Descriptor{layer}
	return attestation{about: i.digest(), image: image{
		mediaType: oci.manifest,
		manifest:  encode(manifest),
		platform:  &v1.Platform{OS: "unknown", Architecture: "unknown"},
		blobs:     []v1.Layer{config, static.NewLayer(statement, inTotoType)},
	}}
}

func provenance(i image) []byte { return fmt.Appendf(nil, provenanceTemplate, i.digest().Encoded()) }
