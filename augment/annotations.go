package augment

import (
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// aboutOthers begin the annotations that say something of the very bytes of the base
// image, in any form: SOCI's indexes, signatures of cosign and Notation, BuildKit's
// attestations and digests. eStargz and zstd:chunked annotate layers, which stay.
var aboutOthers = []string{
	"com.amazon.soci.", "dev.cosignproject.cosign/", "dev.sigstore.cosign/", "dev.sigstore.bundle.", "io.cncf.notary.",
	"vnd.docker.reference.", "containerimage.", "config.digest",
}

// replaced are the digests that the documents of the base image name and the augmented
// image does not have: manifests, configs, attestations.
type replaced map[digest.Digest]bool

// algorithms are the ones of valid digests, and how many hexadecimal digits theirs have.
var algorithms = map[string]int{"sha256": 64, "sha384": 96, "sha512": 128}

// in reports whether a text names one of the digests. It goes over the text once, however
// many digests there are.
func (r replaced) in(text string) bool {
	for at := 0; ; at++ {
		colon := strings.IndexByte(text[at:], ':')
		if colon < 0 {
			return false
		}
		at += colon
		for name, digits := range algorithms {
			if end := at + 1 + digits; end <= len(text) && strings.HasSuffix(text[:at], name) && r[digest.Digest(text[at-len(name):end])] {
				return true
			}
		}
	}
}

// withoutReferences removes from a document or descriptor what points at other bytes than
// the augmented image's: the member "subject", and annotations that are a digest, other
// than one of the layers in kept, that name a replaced document, or that are about
// the base's very bytes.
func withoutReferences(m *members, gone replaced, kept map[digest.Digest]bool) error {
	m.remove("subject")
	raw := m.get("annotations")
	if raw == nil {
		return nil
	}
	annotations, err := parseMap(raw)
	if err != nil {
		return Errorf("annotations: %v", err)
	}
	before := len(annotations)
	annotations = slices.DeleteFunc(annotations, func(a member) bool { return isReference(a, gone, kept) })
	switch {
	case len(annotations) == before:
	case len(annotations) == 0:
		m.remove("annotations")
	default:
		m.set("annotations", annotations)
	}
	return nil
}

func isReference(a member, gone replaced, kept map[digest.Digest]bool) bool {
	if a.name == ocispec.AnnotationBaseImageDigest || a.name == ocispec.AnnotationBaseImageName {
		return false // annotate sets them anew
	}
	if slices.ContainsFunc(aboutOthers, func(prefix string) bool { return strings.HasPrefix(a.name, prefix) }) {
		return true
	}
	value := strings.Trim(string(a.value), `"`)
	if d := digest.Digest(value); d.Validate() == nil {
		return !kept[d]
	}
	return gone.in(value)
}

// pointTo has a descriptor of the base name the document that took its place.
func pointTo(descriptor *members, to Object, gone replaced) error {
	descriptor.set("digest", to.Digest)
	descriptor.set("size", len(to.Data))
	descriptor.remove("data") // a copy of the previous bytes
	descriptor.remove("urls") // where the previous bytes are
	return withoutReferences(descriptor, gone, nil)
}
