package augment

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/internal/jsonlimit"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

const (
	// MaxElements bounds the elements of a manifest, index or config. An index of
	// maxChildren entries with all their members has a quarter of them.
	MaxElements = 1 << 16
	// maxLayers bounds the layers of any manifest, and maxChildren the entries of any
	// index. Container images have at most maxChildren layers; artifacts may have
	// more.
	maxLayers = 4096
	// maxSize bounds the size that a descriptor may claim, in bytes. Sums of a
	// document's sizes then fit an int64.
	maxSize = 1 << 44
	// maxType bounds a media type, in bytes (RFC 6838, section 4.2).
	maxType = 255
)

// References holds the descriptors in a manifest or index. They have only
// MediaType, Digest and Size, and those of Manifests Platform: annotations, URLs
// and embedded data may be large, and no caller needs them.
type References struct {
	Manifests []ocispec.Descriptor // of an index; nil if the document has no such member
	Config    *ocispec.Descriptor  // of a manifest
	Layers    []ocispec.Descriptor // of a manifest
}

// References returns the descriptors in a manifest or index, from which callers
// learn what is reachable from an image. For a config the result has no meaning.
//
// An *Error names the document if it is not valid, has more elements or
// descriptors than any real one, or has a descriptor whose digest or size cannot
// be. It is returned before memory is spent on them. A large document waits for its
// turn (unpack.InTurn), whose errors are other ones.
func (o Object) References(ctx context.Context) (refs References, err error) {
	err = unpack.InTurn(ctx, len(o.Data), func() error {
		parts, err := o.parts()
		if err == nil {
			err = parts.validate()
		}
		if err != nil {
			return Errorf("manifest %s is not valid: %v", o.Digest, err)
		}
		refs = parts.references()
		return nil
	})
	return refs, err
}

// Decode reads the document into v, and refuses one of too many elements first.
// Errors are *Error and name the document, or those of unpack.InTurn.
func (o Object) Decode(ctx context.Context, v any) error {
	return unpack.InTurn(ctx, len(o.Data), func() error {
		if err := o.checkElements(); err != nil {
			return err
		}
		if err := json.Unmarshal(o.Data, v); err != nil {
			return Errorf("document %s is not valid: %v", o.Digest, err)
		}
		return nil
	})
}

// checkElements refuses a document whose decoding would cost many times its bytes.
func (o Object) checkElements() error {
	if err := jsonlimit.Check(o.Data, MaxElements); err != nil {
		return Errorf("document %s cannot be used: %v", o.Digest, err)
	}
	return nil
}

// parts are the descriptors of a document as it has them, valid or not.
type parts struct {
	Manifests entries `json:"manifests"`
	Config    *part   `json:"config"`
	Layers    layers  `json:"layers"`
}

// part has the members of a descriptor that are read.
type part struct {
	MediaType     string            `json:"mediaType"`
	Digest        digest.Digest     `json:"digest"`
	Size          int64             `json:"size"`
	Platform      *ocispec.Platform `json:"platform"`
	ArtifactType  string            `json:"artifactType"`
	ReferenceType referenceType     `json:"annotations"`
}

// referenceType is the one annotation that is read: BuildKit marks attestations
// with it.
type referenceType string

func (r *referenceType) UnmarshalJSON(data []byte) error {
	var annotations map[string]string // of the wrong type, engines refuse it too
	if err := json.Unmarshal(data, &annotations); err != nil {
		return err
	}
	*r = referenceType(annotations["vnd.docker.reference.type"])
	return nil
}

type (
	entries []part
	layers  []part
)

func (e *entries) UnmarshalJSON(data []byte) error {
	return unmarshalList((*[]part)(e), data, "entries", maxChildren)
}

func (l *layers) UnmarshalJSON(data []byte) error {
	return unmarshalList((*[]part)(l), data, "layers", maxLayers)
}

// unmarshalList reads a list of at most limit descriptors. It counts them first.
func unmarshalList(list *[]part, data []byte, name string, limit int) error {
	var elements []struct{}
	if err := json.Unmarshal(data, &elements); err != nil {
		return err
	}
	if len(elements) > limit {
		return fmt.Errorf("it has %d %s; this server takes %d", len(elements), name, limit)
	}
	return json.Unmarshal(data, list)
}

func (o Object) parts() (parts, error) {
	var p parts
	if err := jsonlimit.Check(o.Data, MaxElements); err != nil {
		return p, err
	}
	return p, json.Unmarshal(o.Data, &p)
}

// validate returns an error for the first descriptor that no registry could serve.
func (p parts) validate() error {
	if p.Config != nil {
		if err := p.Config.validate(); err != nil {
			return fmt.Errorf("config: %w", err)
		}
	}
	for i, d := range p.Layers {
		if err := d.validate(); err != nil {
			return fmt.Errorf("layer %d: %w", i, err)
		}
	}
	for i, d := range p.Manifests {
		if err := d.validate(); err != nil {
			return fmt.Errorf("entry %d: %w", i, err)
		}
	}
	return nil
}

// IsEmpty reports whether the digest is of no bytes, which no other blob has. It must be
// valid.
func IsEmpty(d digest.Digest) bool { return d == d.Algorithm().FromBytes(nil) }

func (d part) validate() error {
	if err := d.Digest.Validate(); err != nil {
		return fmt.Errorf("digest %.100q: %w", d.Digest, err)
	}
	if d.Size < 0 || d.Size > maxSize {
		return fmt.Errorf("%s has a size of %d bytes: want at least 0 and at most %d", d.Digest, d.Size, int64(maxSize))
	}
	if len(d.MediaType) > maxType {
		return fmt.Errorf("%s has a media type of %d bytes, at most %d are allowed", d.Digest, len(d.MediaType), maxType)
	}
	return nil
}

func (p parts) references() References {
	var refs References
	if p.Config != nil {
		config := p.Config.small()
		refs.Config = &config
	}
	for _, l := range p.Layers {
		refs.Layers = append(refs.Layers, l.small())
	}
	if p.Manifests != nil {
		refs.Manifests = make([]ocispec.Descriptor, 0, len(p.Manifests))
	}
	for _, e := range p.Manifests {
		entry := e.small()
		if e.Platform != nil {
			entry.Platform = &ocispec.Platform{OS: e.Platform.OS, Architecture: e.Platform.Architecture, Variant: e.Platform.Variant}
		}
		refs.Manifests = append(refs.Manifests, entry)
	}
	return refs
}

func (d part) small() ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
}
