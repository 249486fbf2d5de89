package registry

import (
	"context"
	"net/http"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/front"
)

// only are the platforms that an identity's policy limits it to. Empty means all. An
// index that was not rewritten does not lead to others.
type only []ocispec.Platform

// checkPlatform returns a refusal if the policy is for other platforms. What calls
// its platform unknown is no image: attestations do.
func (o only) checkPlatform(p ocispec.Platform) error {
	if len(o) == 0 || p.OS == "unknown" && p.Architecture == "unknown" ||
		slices.ContainsFunc(o, func(want ocispec.Platform) bool { return augment.Covers(want, p) }) {
		return nil
	}
	return errOtherPlatform
}

// errOtherPlatform is one value for all entries, which are many.
var errOtherPlatform = front.Refuse(http.StatusForbidden, front.Denied,
	"this manifest is for a platform that you may not pull: ask the administrator of this server (api.identities)")

// checkImage returns a refusal if the manifest is an image for another platform
// than the policy's, whatever the index says that it is.
func (o only) checkImage(ctx context.Context, src augment.Documents, refs augment.References) error {
	if len(o) == 0 || !refs.IsImage() {
		return nil
	}
	config, err := src.Blob(ctx, *refs.Config)
	if err != nil {
		return err
	}
	var p ocispec.Platform
	if err := config.Decode(ctx, &p); err != nil {
		return err
	}
	return o.checkPlatform(p)
}
