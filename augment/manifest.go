package augment

import (
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// origin is the base image as the standard annotations name it.
type origin struct {
	name   string // docker.io/library/ubuntu:24.04
	digest digest.Digest
}

// rewriteManifest points a manifest at the rewritten config and appends the
// layers. mediaType is what classify found for the base.
func rewriteManifest(base Object, m members, mediaType string, config Object, added []Layer, from origin) (Object, error) {
	var configDesc members
	if raw := m.get("config"); raw != nil {
		var err error
		if configDesc, err = parseMembers(raw); err != nil {
			return Object{}, Errorf("manifest %s: config: %v", base.Digest, err)
		}
	}
	configDesc.set("digest", config.Digest)
	configDesc.set("size", len(config.Data))
	configDesc.remove("data") // a copy of the old config's bytes
	m.set("config", configDesc)

	var layers []json.RawMessage
	if err := m.decode("layers", &layers); err != nil {
		return Object{}, Errorf("manifest %s: %v", base.Digest, err)
	}
	for _, l := range added {
		layers = append(layers, encodeJSON(members{
			{"mediaType", encodeJSON(layerType(mediaType))},
			{"digest", encodeJSON(l.Digest)},
			{"size", encodeJSON(l.Size)},
		}))
	}
	m.set("layers", layers)
	if err := annotate(&m, mediaType, from); err != nil {
		return Object{}, Errorf("manifest %s: %v", base.Digest, err)
	}
	return NewObject(mediaType, m.encode()), nil
}

// rewriteIndex keeps the entries whose positions are in swap, with the digest and
// size of the augmented document. It drops every other entry, so that no client
// is ever handed an image that was not augmented.
func rewriteIndex(base Object, m members, mediaType string, swap map[int]Object, from origin) (Object, error) {
	var entries, kept []json.RawMessage
	if err := m.decode("manifests", &entries); err != nil {
		return Object{}, Errorf("index %s: %v", base.Digest, err)
	}
	for i, raw := range entries {
		to, ok := swap[i]
		if !ok {
			continue
		}
		entry, err := parseMembers(raw)
		if err != nil {
			return Object{}, Errorf("index %s: entry %d: %v", base.Digest, i, err)
		}
		entry.set("digest", to.Digest)
		entry.set("size", len(to.Data))
		entry.remove("data") // a copy of the old manifest's bytes
		kept = append(kept, entry.encode())
	}
	m.set("manifests", kept)
	if err := annotate(&m, mediaType, from); err != nil {
		return Object{}, Errorf("index %s: %v", base.Digest, err)
	}
	return NewObject(mediaType, m.encode()), nil
}

// annotate records the base image in the annotations that scanners look for.
// Docker's formats have no annotations.
func annotate(m *members, mediaType string, from origin) error {
	if !isOCI(mediaType) {
		return nil
	}
	var annotations members
	if raw := m.get("annotations"); raw != nil {
		var err error
		if annotations, err = parseMap(raw); err != nil {
			return Errorf("annotations: %v", err)
		}
	}
	annotations.set(ocispec.AnnotationBaseImageDigest, from.digest)
	annotations.set(ocispec.AnnotationBaseImageName, from.name)
	m.set("annotations", annotations)
	return nil
}
