package augment

import (
	"encoding/json"
	"slices"

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
	parts, err := base.parts()
	if err != nil {
		return Object{}, Errorf("manifest %s is not valid: %v", base.Digest, err)
	}
	gone, kept := replaced{base.Digest: true}, []digest.Digest{}
	if parts.Config != nil {
		gone[parts.Config.Digest] = true
	}
	for _, l := range parts.Layers {
		kept = append(kept, l.Digest)
	}
	if err := pointTo(&configDesc, config, gone); err != nil {
		return Object{}, Errorf("manifest %s: config: %v", base.Digest, err)
	}
	m.set("config", configDesc)
	if err := withoutReferences(&m, gone, kept); err != nil {
		return Object{}, Errorf("manifest %s: %v", base.Digest, err)
	}

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

// rewriteIndex keeps the entries at the positions in results, as they became: with the
// digest and size of the augmented document, or as the entries of an inner index. It drops
// every other entry, so that no client is ever handed an image that was not augmented by
// mistake.
func rewriteIndex(base Object, m members, mediaType string, results []result, from origin) (Object, []json.RawMessage, error) {
	fail := func(i int, err error) (Object, []json.RawMessage, error) {
		return Object{}, nil, Errorf("index %s: entry %d: %v", base.Digest, i, err)
	}
	var entries, kept []json.RawMessage
	if err := m.decode("manifests", &entries); err != nil {
		return Object{}, nil, Errorf("index %s: %v", base.Digest, err)
	}
	parts, err := base.parts()
	if err != nil {
		return Object{}, nil, Errorf("index %s is not valid: %v", base.Digest, err)
	}
	gone := replaced{base.Digest: true}
	for i, e := range parts.Manifests {
		if !results[i].plain {
			gone[e.Digest] = true
		}
	}
	for i, raw := range entries {
		switch r := results[i]; {
		case r.plain:
			kept = append(kept, raw)
		case r.flat != nil:
			flat, err := flatten(raw, r.flat)
			if err != nil {
				return fail(i, err)
			}
			kept = append(kept, flat...)
		case r.object != nil:
			entry, err := parseMembers(raw)
			if err == nil {
				err = pointTo(&entry, *r.object, gone)
			}
			if err != nil {
				return fail(i, err)
			}
			kept = append(kept, entry.encode())
		}
	}
	m.set("manifests", kept)
	err = withoutReferences(&m, gone, nil)
	if err == nil {
		err = annotate(&m, mediaType, from)
	}
	if err != nil {
		return Object{}, nil, Errorf("index %s: %v", base.Digest, err)
	}
	return NewObject(mediaType, m.encode()), kept, nil
}

// flatten returns the entries of an inner index as they stand in the index around it, with
// the annotations of the entry that they replace.
func flatten(around json.RawMessage, inner []json.RawMessage) ([]json.RawMessage, error) {
	entry, err := parseMembers(around)
	if err != nil {
		return nil, err
	}
	if err := withoutReferences(&entry, nil, nil); err != nil {
		return nil, err
	}
	raw := entry.get("annotations")
	if raw == nil {
		return inner, nil
	}
	outer, err := parseMap(raw)
	if err != nil {
		return nil, err
	}
	flat := make([]json.RawMessage, len(inner))
	for i, raw := range inner {
		entry, err := parseMembers(raw)
		if err != nil {
			return nil, err
		}
		var annotations members
		if raw := entry.get("annotations"); raw != nil {
			if annotations, err = parseMap(raw); err != nil {
				return nil, err
			}
		}
		for _, a := range outer {
			if !slices.ContainsFunc(annotations, func(own member) bool { return own.name == a.name }) {
				annotations = append(annotations, a)
			}
		}
		entry.set("annotations", annotations)
		flat[i] = entry.encode()
	}
	return flat, nil
}

// withPlatform sets the platform of the entries that have none.
func withPlatform(entries []json.RawMessage, p ocispec.Platform) ([]json.RawMessage, error) {
	set := make([]json.RawMessage, len(entries))
	for i, raw := range entries {
		var e part
		if err := json.Unmarshal(raw, &e); err != nil {
			return nil, err
		}
		set[i] = raw
		if declares(e.Platform) {
			continue
		}
		entry, err := parseMembers(raw)
		if err != nil {
			return nil, err
		}
		entry.set("platform", ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
		set[i] = entry.encode()
	}
	return set, nil
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
