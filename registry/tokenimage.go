package registry

import (
	"context"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// tokenImages has the images that tokens stand for. It is safe for concurrent use.
type tokenImages struct {
	tokens Tokens
	store  blobstore.Store
	loaded *sizedlru.Cache[auth.Token, *image]
	loads  flight.Calls
	// platforms are those that an identity's policy limits it to; nil for no limits.
	platforms func(identity string) []string
}

const (
	cachedImages = 1024
	// tokenImagesCost bounds the images in memory, in bytes. An ordinary one costs
	// 20 KiB.
	tokenImagesCost = 32 << 20
	imageTTL        = 10 * time.Minute
	loadTimeout     = 30 * time.Second
)

func newTokenImages(tokens Tokens, store blobstore.Store, platforms func(identity string) []string) *tokenImages {
	return &tokenImages{tokens: tokens, store: store, platforms: platforms, loaded: sizedlru.New[auth.Token, *image](tokenImagesCost, cachedImages, imageTTL)}
}

// image opens the token and returns its image, which is loaded once for any number
// of concurrent requests. The token is opened each time, because it may have been
// revoked. An image that is too large for memory is loaded for each request anew.
// Errors are those of Tokens and of the store.
func (t *tokenImages) image(ctx context.Context, token auth.Token) (*image, error) {
	grant, err := t.tokens.Open(ctx, token)
	if err != nil {
		return nil, err
	}
	if img, ok := t.loaded.Get(token); ok {
		return img, nil
	}
	return flight.Do(ctx, &t.loads, string(token), loadTimeout, func(ctx context.Context) (*image, error) {
		limits, err := t.limits(grant.Identity)
		if err != nil {
			return nil, err
		}
		img, err := loadImage(ctx, t.store, grant, limits)
		if err != nil {
			return nil, err
		}
		img.late.grew = func() { t.loaded.Reweigh(token, img.totalCost()) }
		img.shared = t.loaded.Add(token, img, img.totalCost())
		return img, nil
	})
}

// limits are the platforms that the policy in force limits an identity to. Those that
// a request asked for by itself limit nothing: an index to which nothing was added
// stays whole for its caller.
func (t *tokenImages) limits(identity string) (only, error) {
	if t.platforms == nil {
		return nil, nil
	}
	return augment.ParsePlatforms(strings.Join(t.platforms(identity), ","))
}
