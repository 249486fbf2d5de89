package augment

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Docker's names for the types that the OCI image specification renamed.
const (
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	dockerConfig   = "application/vnd.docker.container.image.v1+json"
	dockerLayer    = "application/vnd.docker.image.rootfs.diff.tar.gzip"
	dockerSchema1  = "application/vnd.docker.distribution.manifest.v1+json"
	dockerSigned1  = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// kind tells manifests from indexes.
type kind int

const (
	kindManifest kind = iota + 1
	kindIndex
)

// classify returns the kind and the media type of a document. The body's
// mediaType member counts first, then what the registry or the parent index
// said, then the structure: OCI documents may omit the member, and registries
// send generic content types.
func classify(o Object, m members) (kind, string, error) {
	var inBody string
	if err := m.decode("mediaType", &inBody); err != nil {
		return 0, "", err
	}
	if m.get("fsLayers") != nil || isSchema1(inBody) {
		return 0, "", Errorf("the image has a schema 1 manifest, which current container engines no longer accept: push it again with a current client")
	}
	if m.get("manifests") != nil && (m.get("config") != nil || m.get("layers") != nil) {
		return 0, "", Errorf("the document is both a manifest and an index, which container engines refuse")
	}
	switch mediaType := cmp.Or(inBody, o.MediaType); mediaType {
	case ocispec.MediaTypeImageManifest, dockerManifest:
		return kindManifest, mediaType, nil
	case ocispec.MediaTypeImageIndex, dockerList:
		return kindIndex, mediaType, nil
	}
	switch {
	case inBody != "":
	case m.get("manifests") != nil:
		return kindIndex, ocispec.MediaTypeImageIndex, nil
	case m.get("config") != nil && m.get("layers") != nil:
		return kindManifest, ocispec.MediaTypeImageManifest, nil
	}
	return 0, "", notImage("media type %q is not an image manifest or index", cmp.Or(inBody, o.MediaType))
}

func isSchema1(mediaType string) bool {
	return mediaType == dockerSchema1 || mediaType == dockerSigned1
}

// isOCI reports whether a manifest or index of this type may carry annotations
// and takes OCI layer types.
func isOCI(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageManifest || mediaType == ocispec.MediaTypeImageIndex
}

// layerType returns the media type of an injected layer in a manifest of the given
// type: containers/image refuses manifests that mix the families.
func layerType(manifestType string) string {
	if isOCI(manifestType) {
		return ocispec.MediaTypeImageLayerGzip
	}
	return dockerLayer
}

// fileSystem matches the media types of layers that are unpacked into a root file
// system: archives of both families, compressed, foreign or encrypted in any way.
var fileSystem = regexp.MustCompile(`^application/vnd\.(oci\.image\.layer(\.nondistributable)?\.v1\.tar|docker\.image\.rootfs(\.foreign)?\.diff\.tar)([.+][a-z0-9]+)*$`)

// isImageConfig reports whether engines take a config of this media type for an image's.
// Docker 1.10 pushed configs under generic types (docker/distribution issue 1622).
func isImageConfig(manifestType, configType string) bool {
	return isConfigType(configType) || manifestType == dockerManifest && isGeneric(configType)
}

func isConfigType(mediaType string) bool {
	return mediaType == ocispec.MediaTypeImageConfig || mediaType == dockerConfig
}

// isGeneric reports whether the media type says nothing. Charts, models and signatures have
// types of their own.
func isGeneric(mediaType string) bool {
	base, _, _ := strings.Cut(mediaType, ";")
	switch strings.TrimSpace(base) {
	case "", "application/octet-stream", "application/json", "text/html", "text/plain":
		return true
	}
	return false
}

// notImage returns why a manifest is an artifact and no container image, or nothing. It
// is an image if it has an image's config, and layers of file systems.
func (p parts) notImage(manifestType string, m members) string {
	var artifactType string
	_ = m.decode("artifactType", &artifactType) // engines do not read it
	switch {
	case p.Config == nil:
		return "it has no config"
	case artifactType != "" && !isConfigType(artifactType):
		return fmt.Sprintf("its artifact type is %q", short(artifactType))
	case !isImageConfig(manifestType, p.Config.MediaType):
		return fmt.Sprintf("its config has media type %q", short(p.Config.MediaType))
	}
	for i, l := range p.Layers {
		// Some old images say nothing of their layers.
		if !fileSystem.MatchString(l.MediaType) && (l.MediaType != "" || !isConfigType(p.Config.MediaType)) {
			return fmt.Sprintf("its layer %d has media type %q", i+1, short(l.MediaType))
		}
	}
	return ""
}

// short cuts a stranger's text to what fits a message.
func short(text string) string { return fmt.Sprintf("%.100s", text) }

// IsImage reports whether a manifest with these references is a container image rather
// than an artifact, as the most liberal engine sees it.
func (r References) IsImage() bool {
	if r.Config == nil {
		return false
	}
	p := parts{Config: &part{MediaType: r.Config.MediaType}}
	for _, l := range r.Layers {
		p.Layers = append(p.Layers, part{MediaType: l.MediaType})
	}
	return p.notImage(dockerManifest, nil) == ""
}

// attachmentTag is the tag of an index that lists what is attached to a digest, where a
// registry has no referrers API (OCI distribution specification, "Referrers Tag Schema").
var attachmentTag = regexp.MustCompile(`^(sha256-[a-f0-9]{64}|sha512-[a-f0-9]{128})$`)

// attached returns why an index lists attachments, or nothing: clients that attach
// anything give its type in the entry. It may list images, too.
func attached(tag string, entries []part) string {
	if attachmentTag.MatchString(tag) && slices.ContainsFunc(entries, func(e part) bool { return e.ArtifactType != "" && !isConfigType(e.ArtifactType) }) {
		return "its index lists artifacts that are attached to another one"
	}
	return ""
}

// mayBeImage reports whether an index entry can lead to an image. Other types must not be
// an error (OCI image specification, "Image Index").
func mayBeImage(e part) bool {
	if e.ReferenceType != "" || e.Platform != nil && e.Platform.OS == "unknown" && e.Platform.Architecture == "unknown" {
		return false
	}
	switch e.MediaType {
	case "", ocispec.MediaTypeImageManifest, dockerManifest, ocispec.MediaTypeImageIndex, dockerList:
		return true
	}
	return isSchema1(e.MediaType)
}

// IsManifest reports whether the object is an image manifest: neither an index
// nor a config.
func (o Object) IsManifest() bool {
	return o.MediaType == ocispec.MediaTypeImageManifest || o.MediaType == dockerManifest
}
