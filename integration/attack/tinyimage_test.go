package attack

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// tinyImage is an image of one layer, for registries that lie. It is served
// unchecked under every name, tag and digest.
type tinyImage struct {
	Config, Manifest []byte
	Layer            harness.Layer
}

const (
	manifestType = "application/vnd.oci.image.manifest.v1+json"
	indexType    = "application/vnd.oci.image.index.v1+json"
	configType   = "application/vnd.oci.image.config.v1+json"
	layerType    = "application/vnd.oci.image.layer.v1.tar+gzip"
)

// described is a descriptor.
type described struct {
	MediaType string         `json:"mediaType,omitempty"`
	Digest    string         `json:"digest"`
	Size      int            `json:"size"`
	Platform  map[string]any `json:"platform,omitempty"`
}

func newTinyImage(t *testing.T) tinyImage {
	t.Helper()
	layer := harness.LayerOf(t, harness.File{Name: "etc/tiny", Mode: 0o644, Text: t.Name()})
	config := fmt.Appendf(nil, `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}}`, layer.TarDigest)
	return tinyImage{config, manifestOf(t, described{configType, harness.Sum(config), len(config), nil},
		described{layerType, layer.GzipDigest, layer.GzipSize, nil}), layer}
}

func manifestOf(t *testing.T, config described, layers ...described) []byte {
	t.Helper()
	return harness.MustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": manifestType, "config": config, "layers": layers})
}

func indexOf(t *testing.T, entries ...described) []byte {
	t.Helper()
	return harness.MustJSON(t, map[string]any{"schemaVersion": 2, "mediaType": indexType, "manifests": entries})
}

// ServeHTTP serves the image. It also gives out tokens, and serves the layer at
// any other path.
func (i tinyImage) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch path := r.URL.Path; {
	case strings.Contains(path, "/manifests/"):
		w.Header().Set("Content-Type", manifestType)
		_, _ = w.Write(i.Manifest)
	case strings.HasSuffix(path, harness.Sum(i.Config)):
		_, _ = w.Write(i.Config)
	case path == "/token":
		_, _ = io.WriteString(w, `{"token": "a-token"}`)
	case path == "/v2/":
	default:
		_, _ = w.Write(i.Layer.Archive)
	}
}
