package containerconfig

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// Layers takes layers in. assemble.Layers is one.
type Layers interface {
	Inline(ctx context.Context, staged blobstore.Store, data []byte, want assemble.Expected) (augment.Layer, error)
	Remote(ctx context.Context, url string, want assemble.Expected) (augment.Layer, error)
	// Image takes the layer at a docker:// location.
	Image(ctx context.Context, identity, location string, want assemble.Expected) (augment.Layer, error)
}

// Taker takes layers in from their locations. It is safe for concurrent use if
// its fields are.
type Taker struct {
	Layers Layers
	// Staged gets the layers that stand in their location; all others go to the store
	// behind Layers.
	Staged    blobstore.Store
	MaxInline int64 // bytes that a layer in its location may unpack to
}

// Take takes in a layer and returns what it has turned out to be. identity is
// the caller whose credentials reach registries; URLs are read anonymously.
func (t Taker) Take(ctx context.Context, identity string, l Layer) (augment.Layer, error) {
	want, err := l.Expected("layer")
	if err != nil {
		return augment.Layer{}, err
	}
	switch schemeOf(l.Location) {
	case "http", "https":
		return t.Layers.Remote(ctx, l.Location, want)
	case "docker":
		return t.Layers.Image(ctx, identity, l.Location, want)
	case "data", "gzip":
		data, packed, err := Inline(ctx, l.Location, t.MaxInline)
		if err != nil {
			return augment.Layer{}, err
		}
		want.Packed = packed
		return t.Layers.Inline(ctx, t.Staged, data, want)
	}
	return augment.Layer{}, refuseScheme("location", l.Location)
}

// schemes begin the locations that a Taker knows.
var schemes = []string{"http", "https", "docker", "data", "gzip"}

func schemeOf(location string) string {
	scheme, _, _ := strings.Cut(location, ":")
	return scheme
}

func refuseScheme(key, location string) error {
	return front.Refuse(http.StatusBadRequest, front.Unsupported, "%s %.40q: want data:, gzip:, http://, https:// or docker://", key, location)
}

// Inline returns the archive in a "data:" or "gzip:" location, and how many bytes it
// took there. "gzip:" is zlib, as Wave and its clients have it, around an archive
// that is itself compressed; it may unpack to limit bytes, which are charged to the
// context's budget.
func Inline(ctx context.Context, location string, limit int64) (data []byte, packed int64, err error) {
	scheme, text, _ := strings.Cut(location, ":")
	data, err = base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, 0, front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not valid base64: %v", err)
	}
	packed = int64(len(data))
	if scheme == "data" {
		return data, packed, nil
	}
	data, err = inflate(ctx, data, limit)
	return data, packed, err
}

// inflate unpacks a zlib stream of at most limit bytes.
func inflate(ctx context.Context, data []byte, limit int64) ([]byte, error) {
	turn := unpack.New(ctx)
	if err := turn.Enter(); err != nil {
		return nil, err
	}
	defer turn.Leave()
	z, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not a zlib stream: %v", err)
	}
	packed := int64(len(data))
	data, err = io.ReadAll(io.LimitReader(turn.Reader(z, func() int64 { return packed }), limit+1))
	_, exceeded := errors.AsType[*budget.Exceeded](err)
	switch {
	case exceeded || ctx.Err() != nil:
		return nil, err
	case err != nil:
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not a valid zlib stream: %v", err)
	case int64(len(data)) > limit:
		return nil, front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported, "layer unpacks to more than %d bytes (api.max_body)", limit)
	}
	return data, nil
}
