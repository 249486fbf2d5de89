package api

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/registry"
)

// maxName is what many clients allow for host, "/" and repository together.
// See the implementers' note in the OCI distribution specification.
const maxName = 255

// postContainer augments an image and answers with the name to pull it by.
func (s server) postContainer(w http.ResponseWriter, r *http.Request) (any, error) {
	var req SubmitRequest
	if err := s.decode(w, r, &req); err != nil {
		return nil, err
	}
	if err := req.unsupported(); err != nil {
		return nil, err
	}
	ref, err := s.parseImage(req.ContainerImage)
	if err != nil {
		return nil, err
	}
	platforms, err := augment.ParsePlatforms(req.ContainerPlatform)
	if err != nil {
		return nil, err
	}
	ttl, err := parseTTL(req.TTL)
	if err == nil {
		err = s.Tokens.CheckTTL(ttl)
	}
	if err != nil {
		return nil, err
	}
	staged := blobstore.NewMem()
	recipe, err := s.recipe(r.Context(), staged, req.ContainerConfig)
	if err != nil {
		return nil, err
	}
	grant, err := s.Resolver.Resolve(r.Context(), registry.ImageRequest{
		Ref: ref, Recipe: recipe, Platforms: platforms, Staged: staged,
	})
	if err != nil {
		return nil, err
	}
	token, expires, err := s.Tokens.Mint(r.Context(), grant, ttl)
	if err != nil {
		return nil, err
	}
	return SubmitResponse{
		RequestID:      string(token),
		ContainerToken: string(token),
		TargetImage:    s.targetImage(token, grant),
		Expiration:     expires.UTC().Format(time.RFC3339),
		ContainerImage: reference.TagNameOnly(ref).String(),
		Succeeded:      true,
		SourceDigest:   grant.Base.String(),
		TargetDigest:   grant.Root.Digest.String(),
	}, nil
}

func (s server) targetImage(token auth.Token, grant auth.Grant) string {
	_, path, _ := strings.Cut(grant.Image, "/")
	name := s.Host + "/wt/" + string(token) + "/" + path
	if grant.Tag != "" {
		return name + ":" + grant.Tag
	}
	return name + "@" + grant.Root.Digest.String()
}

func (s server) parseImage(image string) (reference.Named, error) {
	if image == "" {
		return nil, registry.Refuse(http.StatusBadRequest, "containerImage is missing: name the image to augment")
	}
	ref, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return nil, registry.Refuse(http.StatusBadRequest, "containerImage %q is not an image name: %v", image, err)
	}
	name := s.Host + "/wt/" + strings.Repeat("x", auth.TokenLength) + "/" + reference.Path(ref)
	if len(name) > maxName {
		return nil, registry.Refuse(http.StatusBadRequest, "containerImage %q: the name to pull would have %d characters with this server's host and the token, and container engines take %d", image, len(name), maxName)
	}
	return ref, nil
}

func parseTTL(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl <= 0 {
		return 0, registry.Refuse(http.StatusBadRequest, "ttl %q: want a duration such as 12h", text)
	}
	return ttl, nil
}

func (s server) recipe(ctx context.Context, staged blobstore.Store, c *ContainerConfig) (augment.Recipe, error) {
	if c == nil {
		return augment.Recipe{}, nil
	}
	recipe := augment.Recipe{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, WorkingDir: c.WorkingDir}
	if err := recipe.Validate(); err != nil {
		return recipe, registry.Refuse(http.StatusBadRequest, "containerConfig: %v", err)
	}
	for i, l := range c.Layers {
		layer, err := s.layer(ctx, staged, l)
		if err != nil {
			return recipe, fmt.Errorf("containerConfig.layers[%d]: %w", i, err)
		}
		recipe.Layers = append(recipe.Layers, layer)
	}
	return recipe, nil
}

func (s server) layer(ctx context.Context, staged blobstore.Store, l ContainerLayer) (augment.Layer, error) {
	want := registry.Expected{Digest: digest.Digest(l.GzipDigest), Size: int64(l.GzipSize), DiffID: digest.Digest(l.TarDigest)}
	for name, d := range map[string]digest.Digest{"gzipDigest": want.Digest, "tarDigest": want.DiffID} {
		if d != "" && (d.Validate() != nil || d.Algorithm() != digest.SHA256) {
			return augment.Layer{}, registry.Refuse(http.StatusBadRequest, "layer %s %q: want sha256: and 64 hexadecimal digits", name, d)
		}
	}
	scheme, rest, _ := strings.Cut(l.Location, ":")
	switch scheme {
	case "http", "https":
		return s.Layers.Remote(ctx, l.Location, want)
	case "data", "gzip":
		data, err := s.inline(scheme, rest)
		if err != nil {
			return augment.Layer{}, err
		}
		return s.Layers.Inline(ctx, staged, data, want)
	}
	return augment.Layer{}, registry.Refuse(http.StatusBadRequest, "layer location %.40q: want data:, gzip:, http:// or https://", l.Location)
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
