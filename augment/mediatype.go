package augment

import (
	"cmp"

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
	return 0, "", Errorf("media type %q is not an image manifest or index", cmp.Or(inBody, o.MediaType))
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

// IsImageConfig reports whether a manifest with this config is a container
// image rather than an artifact. Docker 1.10 pushed configs under a generic
// type, which engines still take (docker/distribution issue 1622).
func IsImageConfig(manifestType, configType string) bool {
	return configType == ocispec.MediaTypeImageConfig || configType == dockerConfig ||
		(manifestType == dockerManifest && configType == "application/octet-stream")
}

// mayBeImage reports whether an index entry of this type can lead to an image.
// Other types must not be an error (OCI image specification, "Image Index").
func mayBeImage(mediaType string) bool {
	switch mediaType {
	case "", ocispec.MediaTypeImageManifest, dockerManifest, ocispec.MediaTypeImageIndex, dockerList:
		return true
	}
	return isSchema1(mediaType)
}

// IsManifest reports whether the object is an image manifest: neither an index
// nor a config.
func (o Object) IsManifest() bool {
	return o.MediaType == ocispec.MediaTypeImageManifest || o.MediaType == dockerManifest
}
