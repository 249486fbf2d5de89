package assemble

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/upstream"
)

// layerRight says that a layer can be read at a repository on behalf of an identity.
type layerRight struct {
	target auth.Target
	layer  digest.Digest
}

const (
	// rightTTL is how long a right is good that was found out with a HEAD.
	rightTTL    = 10 * time.Minute
	rightsCost  = 4 << 20
	rightCost   = 512
	headTimeout = 2 * time.Minute
)

// rights remembers which layers could be read lately. What this server has of a layer is
// given only to a caller that could read it. It is safe for concurrent use.
type rights struct {
	proven *sizedlru.Cache[layerRight, struct{}]
	heads  flight.Calls
}

func newRights() *rights {
	return &rights{proven: sizedlru.New[layerRight, struct{}](rightsCost, rightsCost/rightCost, rightTTL)}
}

// check returns an error unless the layer can be read at its repository. It asks with one
// HEAD for all concurrent callers, and again after rightTTL.
func (r *rights) check(ctx context.Context, repo *upstream.Repository, right layerRight) error {
	if r.proven.Contains(right) {
		return nil
	}
	_, err := flight.Do(ctx, &r.heads, fmt.Sprintf("%q %q", right.target, right.layer), headTimeout, func(ctx context.Context) (struct{}, error) {
		if r.proven.Contains(right) {
			return struct{}{}, nil // a flight ended since we looked
		}
		d := ocispec.Descriptor{Digest: right.layer}
		_, err := repo.BlobHead(ctx, d)
		if e, ok := errors.AsType[*upstream.Error](err); ok && e.Status >= 400 && e.Status < 500 && e.Kind != upstream.RateLimited {
			// Some registries refuse HEAD, and GET decides.
			err = firstByte(ctx, repo, d)
		}
		if err == nil {
			r.prove(right)
		}
		return struct{}{}, err
	})
	return err
}

// firstByte returns an error unless the registry begins to send the layer.
func firstByte(ctx context.Context, repo *upstream.Repository, d ocispec.Descriptor) error {
	body, err := repo.Layer(ctx, d)
	if err != nil {
		return err
	}
	return body.Close()
}

// prove remembers that a layer could be read.
func (r *rights) prove(right layerRight) { r.proven.Add(right, struct{}{}, rightCost) }
