package api

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// namedLayer is a layer of a request that may be what it should be.
type namedLayer struct {
	location string
	want     assemble.Expected
}

// nameLayers reads what a request says about its layers.
func nameLayers(layers []ContainerLayer) ([]namedLayer, error) {
	var named []namedLayer
	for i, l := range layers {
		key := fmt.Sprintf("containerConfig.layers[%d]", i)
		want, err := l.Expected(key)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(schemes, schemeOf(l.Location)) {
			return nil, refuseScheme(key+".location", l.Location)
		}
		named = append(named, namedLayer{l.Location, want})
	}
	return named, nil
}

// Expected reads what the wire says of the layer under a key.
func (l ContainerLayer) Expected(key string) (assemble.Expected, error) {
	want := assemble.Expected{Digest: digest.Digest(l.GzipDigest), Size: int64(l.GzipSize), DiffID: digest.Digest(l.TarDigest)}
	for _, d := range []struct {
		member string
		digest digest.Digest
	}{{"gzipDigest", want.Digest}, {"tarDigest", want.DiffID}} {
		if d.digest != "" && (d.digest.Validate() != nil || d.digest.Algorithm() != digest.SHA256) {
			return want, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s.%s %.100q: want sha256: and 64 hexadecimal digits", key, d.member, d.digest)
		}
	}
	return want, nil
}

// schemes are those of locations.
var schemes = []string{"http", "https", "docker", "data", "gzip"}

func schemeOf(location string) string {
	scheme, _, _ := strings.Cut(location, ":")
	return scheme
}

func refuseScheme(key, location string) error {
	return front.Refuse(http.StatusBadRequest, front.Unsupported, "%s %.40q: want data:, gzip:, http://, https:// or docker://", key, location)
}

// TakeLayer takes in the layer at a location as ContainerLayer has it. One that
// comes in its location goes to staged, and may have maxInline bytes; all others
// go to the store behind layers.
func TakeLayer(ctx context.Context, layers Layers, staged blobstore.Store, identity, location string, want assemble.Expected, maxInline int64) (augment.Layer, error) {
	switch schemeOf(location) {
	case "http", "https":
		return layers.Remote(ctx, location, want)
	case "docker":
		return layers.Image(ctx, identity, location, want)
	case "data", "gzip":
		data, err := inline(location, maxInline)
		if err != nil {
			return augment.Layer{}, err
		}
		return layers.Inline(ctx, staged, data, want)
	}
	return augment.Layer{}, refuseScheme("location", location)
}

// inline decodes a layer that came in its location. "gzip:" is zlib, as Wave
// and its clients have it, around an archive that is itself compressed.
func inline(location string, limit int64) ([]byte, error) {
	scheme, text, _ := strings.Cut(location, ":")
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not valid base64: %v", err)
	}
	if scheme == "data" {
		return data, nil
	}
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not a zlib stream: %v", err)
	}
	data, err = io.ReadAll(io.LimitReader(z, limit+1))
	if err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not a valid zlib stream: %v", err)
	}
	if int64(len(data)) > limit {
		return nil, front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported, "layer unpacks to more than %d bytes (api.max_body)", limit)
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
