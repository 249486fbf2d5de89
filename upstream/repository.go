package upstream

import (
	"context"
	"io"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
)

// Repository is one repository of a registry, read with the credential of one
// identity. It is safe for concurrent use, cheap, and remembers nothing. Errors
// are *Error, *budget.Exceeded, or the context's when it was canceled.
type Repository struct {
	client   *Client
	target   auth.Target
	base     *url.URL
	redirect bool // clients may go where the registry redirects
}

// maxObject bounds what is read into memory. Registries need not take larger
// manifests (OCI distribution specification, "Pushing Manifests").
const maxObject = 4 << 20

// accept is the same for every client, because one answer serves them all.
// Schema 1 comes last: nothing can be done with it, but a registry that has
// nothing else would say 404, which is a worse explanation.
var accept = strings.Join([]string{
	ocispec.MediaTypeImageIndex,
	ocispec.MediaTypeImageManifest,
	"application/vnd.docker.distribution.manifest.list.v2+json",
	"application/vnd.docker.distribution.manifest.v2+json",
	"application/vnd.docker.distribution.manifest.v1+prettyjws;q=0.1",
	"application/vnd.docker.distribution.manifest.v1+json;q=0.1",
}, ", ")

var tagPattern = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)

// Manifest reads a manifest or index by tag or digest. Bytes that do not have
// the digest are Invalid; of a tag, the digest is computed here. A
// Docker-Content-Digest of other bytes is Invalid, too: containerd goes by the header,
// Docker and podman by the bytes, so they would not get one image.
func (r *Repository) Manifest(ctx context.Context, ref string) (augment.Object, error) {
	want, err := digest.Parse(ref)
	c := r.call("pull manifest", "@"+ref)
	if err != nil {
		c = r.call("pull manifest", ":"+ref)
		if !tagPattern.MatchString(ref) {
			return augment.Object{}, c.invalid("cannot be asked for %q, which is neither a tag nor a digest", ref)
		}
	}
	c.verified = err == nil
	resp, data, err := r.object(ctx, c, r.url("manifests", ref), http.Header{"Accept": {accept}})
	if err != nil {
		return augment.Object{}, err
	}
	if len(data) == 0 {
		return augment.Object{}, c.invalid("sent an empty answer")
	}
	o := augment.NewObject(mediaType(resp.Header), data)
	if c.verified {
		if o.Digest = want.Algorithm().FromBytes(data); o.Digest != want {
			return augment.Object{}, c.invalid("sent bytes with another digest, %s", o.Digest)
		}
	}
	if said, ok := contradicted(resp.Header, o); ok {
		return augment.Object{}, c.invalid("sent a manifest with the digest %s, and a Docker-Content-Digest that says %s; the registry, or a proxy before it, mixes answers up", o.Digest, said)
	}
	return o, chargeDescriptors(ctx, o)
}

// contradicted returns a Docker-Content-Digest of other bytes than the object's. The
// digest of schema 1 is of a part of the bytes.
func contradicted(h http.Header, o augment.Object) (said digest.Digest, ok bool) {
	said, err := digest.Parse(h.Get("Docker-Content-Digest"))
	if err != nil || strings.Contains(o.MediaType, "docker.distribution.manifest.v1+") {
		return "", false
	}
	return said, said != said.Algorithm().FromBytes(o.Data)
}

// mediaType is the Content-Type without parameters, which some registries add.
func mediaType(h http.Header) string {
	raw := h.Get("Content-Type")
	if t, _, err := mime.ParseMediaType(raw); err == nil {
		return t
	}
	t, _, _ := strings.Cut(raw, ";")
	return strings.TrimSpace(t)
}

// Blob reads a config: at most 4 MiB, of exactly the size and digest that its
// descriptor has.
func (r *Repository) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	c := r.call("pull blob", "@"+d.Digest.String())
	c.verified = true
	if err := d.Digest.Validate(); err != nil {
		return augment.Object{}, c.invalid("cannot be asked for %q, which is not a digest", d.Digest)
	}
	if d.Size > maxObject {
		return augment.Object{}, c.invalid("would send %d bytes, but this server reads at most %d", d.Size, maxObject)
	}
	_, data, err := r.object(ctx, c, r.blobURL(d.Digest), http.Header{})
	if err != nil {
		return augment.Object{}, err
	}
	if int64(len(data)) != d.Size {
		return augment.Object{}, c.invalid("sent %d bytes, but the manifest says %d", len(data), d.Size)
	}
	if found := d.Digest.Algorithm().FromBytes(data); found != d.Digest {
		return augment.Object{}, c.invalid("sent bytes with another digest, %s", found)
	}
	return augment.Object{MediaType: d.MediaType, Digest: d.Digest, Data: data}, nil
}

// Layer opens a blob for reading from its start. Nothing is verified, and the
// caller may close it at any point. Reading fails as that of Fetch does.
func (r *Repository) Layer(ctx context.Context, d ocispec.Descriptor) (io.ReadCloser, error) {
	c := r.call("pull blob", "@"+d.Digest.String())
	c.verified, c.long = true, true
	if err := d.Digest.Validate(); err != nil {
		return nil, c.invalid("cannot be asked for %q, which is not a digest", d.Digest)
	}
	resp, err := r.get(ctx, c, r.blobURL(d.Digest), http.Header{})
	if err != nil {
		return nil, err
	}
	forgetHeaders(resp)
	return &paced{ReadCloser: resp.Body, call: c, host: resp.Request.URL.Host}, nil
}

// blobURL is where the registry has a blob. The digest must be valid.
func (r *Repository) blobURL(d digest.Digest) *url.URL { return r.url("blobs", d.String()) }

func (r *Repository) call(op, suffix string) *call {
	return &call{op: op, name: r.target.Repository + suffix, target: r.target, host: r.base.Host}
}

func (r *Repository) url(kind, ref string) *url.URL {
	u := *r.base
	u.Path = "/v2/" + r.target.Repository + "/" + kind + "/" + ref
	return &u
}

// get returns a response with status 200.
func (r *Repository) get(ctx context.Context, c *call, u *url.URL, h http.Header) (*http.Response, error) {
	req := (&http.Request{Method: http.MethodGet, URL: u, Header: h}).WithContext(ctx)
	resp, err := r.client.do(req, c, r.client.authorized)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		discard(resp.Body)
		return nil, c.refused(resp)
	}
	return resp, nil
}

// object reads a whole answer into memory.
func (r *Repository) object(ctx context.Context, c *call, u *url.URL, h http.Header) (*http.Response, []byte, error) {
	if err := budget.From(ctx).Spend(budget.Documents, 1); err != nil {
		return nil, nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, objectTimeout)
	defer cancel()
	resp, err := r.get(ctx, c, u, h)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	if resp.ContentLength > maxObject {
		return nil, nil, c.invalid("would send %d bytes, but this server reads at most %d", resp.ContentLength, maxObject)
	}
	data, err := readCharged(ctx, resp.Body)
	if err != nil {
		return nil, nil, err
	}
	if len(data) > maxObject {
		return nil, nil, c.invalid("sent more than the %d bytes that this server reads", maxObject)
	}
	return resp, data, nil
}
