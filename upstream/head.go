package upstream

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// noHeadKey is what a refusal of HEAD holds for. Registries route and authorize
// manifests and blobs apart, and storages sign the URLs of blobs for one method.
type noHeadKey struct {
	registry string // base URL
	target   auth.Target
	kind     string // manifests or blobs
}

const (
	// noHeadTTL is how long GET is sent at once where HEAD was refused and GET was not.
	noHeadTTL = 10 * time.Minute
	maxNoHead = 4096
	// noHeadCost bounds them in bytes, because strangers choose names.
	noHeadCost = 1 << 20
)

// Digest asks with HEAD which manifest or index a tag names now. Without an object it
// is what the registry says, and empty if the registry says nothing valid: good for
// telling that a tag has not moved, and for nothing else. Where HEAD is refused, GET
// decides, and the object that it brought is returned, too.
func (r *Repository) Digest(ctx context.Context, tag string) (digest.Digest, *augment.Object, error) {
	c := r.call("pull manifest", ":"+tag)
	if !tagPattern.MatchString(tag) {
		return "", nil, c.invalid("cannot be asked for %q, which is not a tag", tag)
	}
	var o *augment.Object
	h, err := r.head(ctx, c, "manifests", r.url("manifests", tag), http.Header{"Accept": {accept}}, func() (http.Header, error) {
		found, err := r.Manifest(ctx, tag)
		o = &found
		return nil, err
	})
	switch {
	case err != nil:
		return "", nil, err
	case o != nil:
		return o.Digest, o, nil
	}
	d, err := digest.Parse(h.Get("Docker-Content-Digest"))
	if err != nil {
		return "", nil, nil
	}
	return d, nil, nil
}

// BlobHead returns the headers of the registry's answer to HEAD for a blob, or to GET
// where HEAD is refused. Then nothing of the body is read.
func (r *Repository) BlobHead(ctx context.Context, d ocispec.Descriptor) (http.Header, error) {
	c := r.call("pull blob", "@"+d.Digest.String())
	c.verified = true
	if err := d.Digest.Validate(); err != nil {
		return nil, c.invalid("cannot be asked for %q, which is not a digest", d.Digest)
	}
	return r.head(ctx, c, "blobs", r.blobURL(d.Digest), http.Header{}, func() (http.Header, error) {
		ctx, cancel := context.WithTimeout(ctx, objectTimeout)
		defer cancel()
		again := r.call(c.op, "@"+d.Digest.String())
		again.verified = true
		resp, err := r.get(ctx, again, r.blobURL(d.Digest), http.Header{})
		if err != nil {
			return nil, err
		}
		resp.Body.Close()
		return resp.Header, nil
	})
}

// head returns the headers of the answer to HEAD. If the registry refuses HEAD, get
// decides; the refusal is remembered if get was not refused.
func (r *Repository) head(ctx context.Context, c *call, kind string, u *url.URL, h http.Header, get func() (http.Header, error)) (http.Header, error) {
	key := noHeadKey{r.Host(), r.target, kind}
	if _, refused := r.client.noHead.Get(key); refused {
		return get()
	}
	headers, err := r.headOnce(ctx, c, u, h)
	if _, ok := errors.AsType[*headRefused](err); ok {
		if headers, err = get(); err == nil {
			r.client.noHead.Add(key, struct{}{}, int64(len(key.registry)+len(key.target.Identity)+len(key.target.Repository))+noHeadEntry)
		}
	}
	return headers, err
}

// noHeadEntry is what a refusal costs in memory beside its texts, in bytes.
const noHeadEntry = 256

// headRefused is a registry's own answer to HEAD that GET may not get.
type headRefused struct{ status int }

func (e *headRefused) Error() string { return "HEAD was answered " + http.StatusText(e.status) }

func (r *Repository) headOnce(ctx context.Context, c *call, u *url.URL, h http.Header) (http.Header, error) {
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	req := (&http.Request{Method: http.MethodHead, URL: u, Header: h}).WithContext(ctx)
	resp, err := r.client.do(req, c, r.client.authorized)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	switch status := resp.StatusCode; {
	case status == http.StatusOK:
		return resp.Header, nil
	case status == http.StatusTooManyRequests, status >= http.StatusInternalServerError && status != http.StatusNotImplemented:
		return nil, c.refused(resp)
	default:
		return nil, &headRefused{status}
	}
}
