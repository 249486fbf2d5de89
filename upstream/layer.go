package upstream

import (
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Whole opens a blob that is read to its end. If its bytes do not have the digest of the
// descriptor, the end is an *Error in place of io.EOF. When the registry's answer breaks,
// the body asks for the rest. Reading fails as that of Fetch does.
func (r *Repository) Whole(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	c := r.call("pull blob", "@"+d.Digest.String())
	if err := d.Digest.Validate(); err != nil {
		return nil, c.invalid("cannot be asked for %q, which is not a digest", d.Digest)
	}
	c.verified = true
	body, err := r.resumed(ctx, d)
	if err != nil {
		return nil, err
	}
	return &verified{ReadCloser: body, call: c, want: d.Digest, sum: d.Digest.Algorithm().Hash()}, nil
}

// resumed opens a blob from its start. The size in a descriptor may be wrong, and the
// digest decides then.
func (r *Repository) resumed(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	if d.Size <= 0 {
		return r.Layer(ctx, d)
	}
	_, body, err := r.Stream(ctx, d, Span{Length: d.Size}, false)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == Invalid {
		return r.Layer(ctx, d)
	}
	if err != nil {
		return nil, err
	}
	return &paced{ReadCloser: body, call: r.call("pull blob", "@"+d.Digest.String()), host: r.base.Host}, nil
}

// verified is the body of a blob whose bytes must have a digest.
type verified struct {
	io.ReadCloser
	call *call
	want digest.Digest
	sum  hash.Hash
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.ReadCloser.Read(p)
	v.sum.Write(p[:n])
	if err == io.EOF {
		if found := digest.NewDigest(v.want.Algorithm(), v.sum); found != v.want {
			return n, v.call.invalid("sent bytes with another digest, %s", found)
		}
	}
	return n, err
}

// Part opens a part of a blob, whose descriptor must have its size. A registry that does
// not send parts is an *Error of the kind Invalid, and nothing is read of its answer. The
// bytes are not verified. Reading fails as that of Fetch does.
func (r *Repository) Part(ctx context.Context, d ocispec.Descriptor, span Span) (io.ReadCloser, error) {
	c := r.call("pull blob", "@"+d.Digest.String())
	if err := d.Digest.Validate(); err != nil {
		return nil, c.invalid("cannot be asked for %q, which is not a digest", d.Digest)
	}
	c.verified = true
	h := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", span.Offset, span.end()-1)}}
	req := (&http.Request{Method: http.MethodGet, URL: r.blobURL(d.Digest), Header: h}).WithContext(ctx)
	resp, err := r.client.do(req, c, r.client.authorized)
	if err != nil {
		return nil, err
	}
	s := &stream{desc: d, next: span.Offset, end: span.end()}
	switch {
	case resp.StatusCode == http.StatusPartialContent && s.isRest(resp):
		return part{io.LimitReader(&paced{ReadCloser: resp.Body, call: c, host: resp.Request.URL.Host}, span.Length), resp.Body}, nil
	case resp.StatusCode == http.StatusPartialContent || resp.StatusCode == http.StatusOK:
		resp.Body.Close()
		return nil, c.invalid("did not send the part that it was asked for")
	}
	discard(resp.Body)
	return nil, c.refused(resp)
}

type part struct {
	io.Reader
	io.Closer
}
