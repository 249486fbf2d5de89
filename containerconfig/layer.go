package containerconfig

import (
	"context"
	"io"
	"net/http"
	"strings"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// Layers takes layers in. assemble.Layers is one.
type Layers interface {
	Inline(ctx context.Context, staged blobstore.Store, r io.Reader, want assemble.Expected) (augment.Layer, error)
	Remote(ctx context.Context, url string, want assemble.Expected) (augment.Layer, error)
	// Image takes the layer at a docker:// location.
	Image(ctx context.Context, identity, location string, want assemble.Expected) (augment.Layer, error)
}

// Taker takes the layers of one request in from their locations. One goroutine uses
// it.
type Taker struct {
	Layers Layers
	// Staged gets the layers that stand in their location; all others go to the store
	// behind Layers.
	Staged    blobstore.Store
	MaxInline int64 // bytes that the layers in their locations may unpack to, together

	inline int64 // bytes that have come out of locations
}

// Take takes in a layer and returns what it has turned out to be. identity is
// the caller whose credentials reach registries; URLs are read anonymously.
func (t *Taker) Take(ctx context.Context, identity string, l Layer) (augment.Layer, error) {
	want, err := l.Expected("layer")
	if err != nil {
		return augment.Layer{}, err
	}
	if err := l.checkLocation("location"); err != nil {
		return augment.Layer{}, err
	}
	switch schemeOf(l.Location) {
	case "http", "https":
		return t.Layers.Remote(upstream.As(ctx, identity), l.Location, want)
	case "docker":
		return t.Layers.Image(ctx, identity, l.Location, want)
	default: // in the location itself
		r, packed, err := Inline(ctx, l.Location)
		if err != nil {
			return augment.Layer{}, err
		}
		defer r.Close()
		want.Packed = packed
		return t.Layers.Inline(ctx, t.Staged, inlineReader{t, r}, want)
	}
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
