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
func rewriteManifest(base Object, m members, mediaType string, config Object, added []Layer, from origin) (members, error) {
	var configDesc members
	if raw := m.get("config"); raw != nil {
		var err error
		if configDesc, err = parseMembers(raw); err != nil {
			return nil, Errorf("manifest %s: config: %v", base.Digest, err)
		}
	}
	parts, err := base.parts()
	if err != nil {
		return nil, Errorf("manifest %s is not valid: %v", base.Digest, err)
	}
	gone, kept := replaced{base.Digest: true}, map[digest.Digest]bool{}
	if parts.Config != nil {
		gone[parts.Config.Digest] = true
	}
	for _, l := range parts.Layers {
		kept[l.Digest] = true
	}
	if err := pointTo(&configDesc, config, gone); err != nil {
		return nil, Errorf("manifest %s: config: %v", base.Digest, err)
	}
	m.set("config", configDesc)
	if err := withoutReferences(&m, gone, kept); err != nil {
		return nil, Errorf("manifest %s: %v", base.Digest, err)
	}

	var layers []json.RawMessage
	if err := m.decode("layers", &layers); err != nil {
		return nil, Errorf("manifest %s: %v", base.Digest, err)
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
		return nil, Errorf("manifest %s: %v", base.Digest, err)
	}
	return m, nil
}

// rewriteIndex keeps the entries at the positions in results, as they became: with the
// digest and size of the augmented document, or as the entries of an inner index. It drops
// every other entry, so that no client is ever handed an image that was not augmented by
// mistake.
func (w *walk) rewriteIndex(base Object, m members, mediaType string, results []result, from origin) (whole members, kept []json.RawMessage, err error) {
	fail := func(i int, err error) (members, []json.RawMessage, error) {
		return nil, nil, Errorf("index %s: entry %d: %v", base.Digest, i, err)
	}
	var entries []json.RawMessage
	if err := m.decode("manifests", &entries); err != nil {
		return nil, nil, Errorf("index %s: %v", base.Digest, err)
	}
	parts, err := base.parts()
	if err != nil {
		return nil, nil, Errorf("index %s is not valid: %v", base.Digest, err)
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
			flat, err := w.flatten(raw, r.flat)
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
		return nil, nil, Errorf("index %s: %v", base.Digest, err)
	}
	return m, kept, nil
}

// flatten returns the entries of an inner index as they stand in the index around it, with
// the annotations of the entry that they replace.
func (w *walk) flatten(around json.RawMessage, inner []json.RawMessage) ([]json.RawMessage, error) {
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
	if err := w.copying(inner, len(inner)*outer.size()); err != nil {
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
		own := make(map[string]bool, len(annotations))
		for _, a := range annotations {
			own[a.name] = true
		}
		for _, a := range outer {
			if !own[a.name] {
				annotations = append(annotations, a)
			}
		}
		entry.set("annotations", annotations)
		flat[i] = entry.encode()
	}
	return flat, nil
}

// withPlatform sets the platform of the entries that have none.
func (w *walk) withPlatform(entries []json.RawMessage, p ocispec.Platform) ([]json.RawMessage, error) {
	platform := encodeJSON(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	if err := w.copying(entries, len(entries)*len(platform)); err != nil {
		return nil, err
	}
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
		entry.set("platform", platform)
		set[i] = entry.encode()
	}
	return set, nil
}

// copying counts the bytes of entries of inner indexes that are about to be written, with
// what is added to them. No document has room for more than maxObject of an image.
func (w *walk) copying(entries []json.RawMessage, added int) error {
	for _, raw := range entries {
		added += len(raw)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.copied += added; w.copied > maxObject {
		return Errorf("the entries of inner indexes would have more than %d bytes with what stands around them", maxObject)
	}
	return nil
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
