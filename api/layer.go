package api

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/registry"
)

// namedLayer is a layer of a request that may be what it should be.
type namedLayer struct {
	location string
	want     registry.Expected
}

// nameLayers reads what a request says about its layers.
func nameLayers(layers []ContainerLayer) ([]namedLayer, error) {
	var named []namedLayer
	for i, l := range layers {
		want := registry.Expected{Digest: digest.Digest(l.GzipDigest), Size: int64(l.GzipSize), DiffID: digest.Digest(l.TarDigest)}
		for _, d := range []struct {
			member string
			digest digest.Digest
		}{{"gzipDigest", want.Digest}, {"tarDigest", want.DiffID}} {
			if d.digest != "" && (d.digest.Validate() != nil || d.digest.Algorithm() != digest.SHA256) {
				return nil, registry.Refuse(http.StatusBadRequest, "containerConfig.layers[%d].%s %.100q: want sha256: and 64 hexadecimal digits", i, d.member, d.digest)
			}
		}
		switch scheme, _, _ := strings.Cut(l.Location, ":"); scheme {
		case "http", "https", "docker", "data", "gzip":
		default:
			return nil, registry.Refuse(http.StatusBadRequest, "containerConfig.layers[%d].location %.40q: want data:, gzip:, http://, https:// or docker://", i, l.Location)
		}
		named = append(named, namedLayer{l.Location, want})
	}
	return named, nil
}

func (s server) takeLayer(ctx context.Context, staged blobstore.Store, identity string, l namedLayer) (augment.Layer, error) {
	scheme, rest, _ := strings.Cut(l.location, ":")
	switch scheme {
	case "http", "https":
		return s.Layers.Remote(ctx, l.location, l.want)
	case "docker":
		return s.Layers.Image(ctx, identity, l.location, l.want)
	}
	data, err := s.inline(scheme, rest)
	if err != nil {
		return augment.Layer{}, err
	}
	return s.Layers.Inline(ctx, staged, data, l.want)
}

// inline decodes a layer that came in its location. "gzip:" is zlib, as Wave
// and its clients have it, around an archive that is itself compressed.
func (s server) inline(scheme, text string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, registry.Refuse(http.StatusBadRequest, "layer location is not valid base64: %v", err)
	}
	if scheme == "data" {
		return data, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, registry.Refuse(http.StatusBadRequest, "layer location is not a zlib stream: %v", err)
	}
	data, err = io.ReadAll(io.LimitReader(z, s.MaxBody+1))
	if err != nil {
		return nil, registry.Refuse(http.StatusBadRequest, "layer location is not a valid zlib stream: %v", err)
	}
	if int64(len(data)) > s.MaxBody {
		return nil, registry.Refuse(http.StatusRequestEntityTooLarge, "layer unpacks to more than %d bytes (api.max_body)", s.MaxBody)
	}
	return data, nil
}

// omitted stands for the content of an inline layer. Wave writes the same.
const omitted = "data:DATA+OMITTED"

// wireConfig is the recipe of a grant, which has no layer's content.
func wireConfig(r augment.Recipe) *ContainerConfig {
	if r.IsZero() {
		return nil
	}
	c := &ContainerConfig{Entrypoint: r.Entrypoint, Cmd: r.Cmd, Env: r.Env, WorkingDir: r.WorkingDir}
	for _, l := range r.Layers {
		location := l.Location
		if location == "" {
			location = omitted
		}
		c.Layers = append(c.Layers, ContainerLayer{
			Location: location, GzipDigest: l.Digest.String(), GzipSize: Size(l.Size), TarDigest: l.DiffID.String(),
		})
	}
	return c
}
