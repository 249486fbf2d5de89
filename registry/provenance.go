package registry

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/url"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream"
)

// Names that readers of provenance go by: in-toto's Statement v1, SLSA's
// provenance v1, and what BuildKit annotates its layers with.
const (
	statementType       = "https://in-toto.io/Statement/v1"
	provenanceType      = "https://slsa.dev/provenance/v1"
	inTotoType          = "application/vnd.in-toto+json"
	predicateAnnotation = "in-toto.io/predicate-type"

	// augmentationType says how to read externalParameters. A change of their meaning,
	// or of the bytes that were advertised, takes another number.
	augmentationType = "https://github.com/waveproxy/waveproxy/augmentation/v1"
)

type statement struct {
	Type          string     `json:"_type"`
	Subject       []resource `json:"subject"`
	PredicateType string     `json:"predicateType"`
	Predicate     provenance `json:"predicate"`
}

// provenance has no times, because the same grant always makes the same bytes.
type provenance struct {
	BuildDefinition struct {
		BuildType            string     `json:"buildType"`
		ExternalParameters   parameters `json:"externalParameters"`
		ResolvedDependencies []resource `json:"resolvedDependencies"`
	} `json:"buildDefinition"`
	RunDetails struct {
		Builder struct {
			ID      string            `json:"id"`
			Version map[string]string `json:"version"`
		} `json:"builder"`
	} `json:"runDetails"`
}

type resource struct {
	Name   string            `json:"name,omitempty"`
	URI    string            `json:"uri,omitempty"`
	Digest map[string]string `json:"digest"`
}

// parameters are the recipe's parameters in the provenance. Values of variables
// and words of commands may be secrets, so only the names of the variables are
// here, and whether the commands were replaced.
type parameters struct {
	Image     string           `json:"image"`
	Platforms []string         `json:"platforms,omitempty"`
	Recipe    recipeParameters `json:"recipe"`
}

type recipeParameters struct {
	Name       string            `json:"name,omitempty"`
	Layers     []layerParameters `json:"layers,omitempty"`
	Env        []string          `json:"env,omitempty"`
	Entrypoint bool              `json:"entrypoint,omitempty"`
	Cmd        bool              `json:"cmd,omitempty"`
	WorkingDir bool              `json:"workingDir,omitempty"`

	Certificates int `json:"certificates,omitempty"` // how many
}

type layerParameters struct {
	Digest   digest.Digest `json:"digest"`
	DiffID   digest.Digest `json:"diffID"`
	Location string        `json:"location,omitempty"`
	Platform string        `json:"platform,omitempty"`
}

// attestation is the provenance of one manifest or index, as it is served.
type attestation struct {
	manifest  augment.Object // its subject is the manifest or index that was made
	statement augment.Object // the manifest's one layer
}

// attester makes the provenance of an image's manifests. Statements of one grant
// differ only in their subjects.
type attester struct {
	image      string
	head, tail []byte // of a statement, around its subject
}

// noSubject is the subject of a statement that has none.
const noSubject = `"subject":null`

// newAttester returns the attester of a grant. What it makes depends on nothing else,
// and augmentationType fixes the members and their order.
func newAttester(g auth.Grant) attester {
	name := g.Image + "@" + g.Base.String()
	if g.Tag != "" {
		name = g.Image + ":" + g.Tag
	}
	s := statement{Type: statementType, PredicateType: provenanceType}
	build := &s.Predicate.BuildDefinition
	recipe := g.Recipe.Flat()
	build.BuildType = augmentationType
	build.ExternalParameters = parameters{Image: name, Platforms: g.Platforms, Recipe: recipeParameters{
		Name: g.Named, Env: variables(slices.Concat(recipe.Env, recipe.ExtendEnv)),
		Entrypoint: len(recipe.Entrypoint) > 0, Cmd: len(recipe.Cmd) > 0, WorkingDir: recipe.WorkingDir != "",
		Certificates: len(recipe.Certificates),
	}}
	build.ResolvedDependencies = []resource{{URI: packageURL(g), Digest: digestSet(g.Base)}}
	for _, l := range g.Recipe.Layers {
		location := publicLocation(l.Location)
		build.ExternalParameters.Recipe.Layers = append(build.ExternalParameters.Recipe.Layers, layerParameters{l.Digest, l.DiffID, location, l.Platform})
		layer := resource{URI: location, Digest: digestSet(l.Digest)}
		if location == "" {
			layer.Name = "layer"
		}
		build.ResolvedDependencies = append(build.ResolvedDependencies, layer)
	}
	s.Predicate.RunDetails.Builder.ID = g.Builder.ID
	s.Predicate.RunDetails.Builder.Version = map[string]string{"waveproxy": g.Builder.Version}
	// The first one is the member: only a constant comes before it.
	head, tail, _ := bytes.Cut(mustEncode(s), []byte(noSubject))
	return attester{g.Image, head, tail}
}

// cost is what the attester and one statement cost in memory, in bytes.
func (a attester) cost() int64 {
	const manifests = 4 << 10
	return 2*int64(len(a.head)+len(a.tail)) + manifests
}

// attest returns the provenance of a manifest or index: how it was made, as far as
// the grant tells.
func (a attester) attest(subject ocispec.Descriptor) attestation {
	text := slices.Concat(a.head, []byte(`"subject":`), mustEncode([]resource{{Name: a.image, Digest: digestSet(subject.Digest)}}), a.tail)
	return attestationOf(subject, augment.NewObject(inTotoType, text))
}

// digests returns the digests of attest's result. It is attest without a copy of the
// statement.
func (a attester) digests(subject ocispec.Descriptor) (manifest, statement digest.Digest) {
	member := mustEncode([]resource{{Name: a.image, Digest: digestSet(subject.Digest)}})
	hash := digest.Canonical.Digester()
	size := 0
	for _, part := range [][]byte{a.head, []byte(`"subject":`), member, a.tail} {
		hash.Hash().Write(part)
		size += len(part)
	}
	text := ocispec.Descriptor{MediaType: inTotoType, Digest: hash.Digest(), Size: int64(size)}
	return digest.FromBytes(attestationManifest(subject, text)), text.Digest
}

func attestationOf(subject ocispec.Descriptor, text augment.Object) attestation {
	return attestation{statement: text, manifest: augment.NewObject(ocispec.MediaTypeImageManifest, attestationManifest(subject, text.Descriptor()))}
}

// attestationManifest returns the manifest whose one layer is the statement.
func attestationManifest(subject, text ocispec.Descriptor) []byte {
	annotations := map[string]string{predicateAnnotation: provenanceType}
	text.Annotations = annotations
	empty := ocispec.DescriptorEmptyJSON
	empty.Data = nil
	return mustEncode(ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: inTotoType,
		Config:       empty,
		Layers:       []ocispec.Descriptor{text},
		Subject:      &ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size},
		Annotations:  annotations,
	})
}

// descriptor is how lists of referrers show the attestation (OCI distribution
// specification, "Listing Referrers").
func (a attestation) descriptor() ocispec.Descriptor {
	desc := a.manifest.Descriptor()
	desc.ArtifactType = inTotoType
	desc.Annotations = map[string]string{predicateAnnotation: provenanceType}
	return desc
}

// mustEncode encodes values of the types above, which can always be encoded.
func mustEncode(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic("registry: encode provenance: " + err.Error())
	}
	return data
}

func digestSet(d digest.Digest) map[string]string {
	return map[string]string{d.Algorithm().String(): d.Encoded()}
}

// packageURL returns the base image's name as scanners write it (package-url's
// type "oci").
func packageURL(g auth.Grant) string {
	u := "pkg:oci/" + path.Base(g.Image) + "@" + url.QueryEscape(g.Base.String()) + "?repository_url=" + g.Image
	if g.Tag != "" {
		u += "&tag=" + g.Tag
	}
	return u
}

// variables returns the names of KEY=VALUE entries, each once, sorted.
func variables(env []string) []string {
	names := map[string]bool{}
	for _, e := range env {
		name, _, _ := strings.Cut(e, "=")
		names[name] = true
	}
	return slices.Sorted(maps.Keys(names))
}

// publicLocation returns where a layer came from, if that is a URL with a host. A
// path of this server means nothing elsewhere and is kept private.
func publicLocation(location string) string {
	if u, err := url.Parse(location); err != nil || u.Host == "" {
		return ""
	}
	return upstream.RedactURL(location)
}
