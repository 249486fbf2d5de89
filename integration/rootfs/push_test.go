package rootfs

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// repository takes the base images. go-containerregistry takes three times as many
// requests for a blob.
type repository struct{ url, name string }

// push pushes an image of the layers and returns its digest.
func (r repository) push(ctx context.Context, layers []packed) (string, error) {
	config := ocispec.Image{Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"}, RootFS: ocispec.RootFS{Type: "layers"}}
	manifest := ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest}
	for _, l := range layers {
		d, err := r.blob(ctx, cmp.Or(l.mediaType, ocispec.MediaTypeImageLayerGzip), l.blob)
		if err != nil {
			return "", err
		}
		d.Annotations = l.annotations
		manifest.Layers = append(manifest.Layers, d)
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, digest.Digest(l.diffID))
	}
	data, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	if manifest.Config, err = r.blob(ctx, ocispec.MediaTypeImageConfig, data); err != nil {
		return "", err
	}
	if data, err = json.Marshal(manifest); err != nil {
		return "", err
	}
	to := digest.FromBytes(data).String()
	_, err = r.send(ctx, http.MethodPut, r.url+"/v2/"+r.name+"/manifests/"+to, ocispec.MediaTypeImageManifest, data)
	return to, err
}

func (r repository) blob(ctx context.Context, mediaType string, data []byte) (ocispec.Descriptor, error) {
	d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
	to, err := r.send(ctx, http.MethodPost, r.url+"/v2/"+r.name+"/blobs/uploads/", "", nil)
	if err != nil {
		return d, err
	}
	separator := "?"
	if strings.Contains(to, "?") {
		separator = "&"
	}
	_, err = r.send(ctx, http.MethodPut, to+separator+"digest="+d.Digest.String(), "application/octet-stream", data)
	return d, err
}

// send sends a request that must succeed, and returns the answer's Location.
func (r repository) send(ctx context.Context, method, url, contentType string, body []byte) (location string, err error) {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode/100 != 2 {
		err = fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	return resp.Header.Get("Location"), err
}
