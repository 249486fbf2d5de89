package registry

import (
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/byterange"
	"github.com/waveproxy/waveproxy/upstream"
)

// streamedBlobs passes on the upstream's blobs without looking at the bytes, or
// redirects the client to where the upstream keeps them.
type streamedBlobs struct{ client *upstream.Client }

func (b streamedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.upstreamBlob(d)
	if !ok {
		return errDecline
	}
	if err := checkSize(img, desc); err != nil {
		return err
	}
	front.RecordOf(r.Context()).Source = "upstream"
	part, done, err := byterange.Answer(w, r, desc.Size, etagOf(desc), func(h http.Header) { setBlobHeaders(h, desc) })
	if done || err != nil {
		return err
	}
	location, body, err := b.client.Repository(img.target).Stream(r.Context(), desc, upstream.Span{Offset: part.Offset, Length: part.Length}, true)
	if errors.Is(err, upstream.ErrNoRanges) && r.Header.Get("Range") != "" {
		r.Header.Del("Range") // HTTP lets a server send the whole instead
		return b.serveBlob(w, r, img, d)
	}
	if err != nil {
		return err
	}
	if location != "" {
		front.RecordOf(r.Context()).Source = "redirect"
		redirect(w.Header(), location)
		w.WriteHeader(http.StatusTemporaryRedirect)
		return nil
	}
	defer body.Close()
	part.WriteHeader(w)
	if err := copyBody(w, body); err != nil {
		abort(r.Context(), err)
	}
	return nil
}

// checkSize refuses a blob that would be served as no bytes although it has some: older
// versions took images whose manifests say so.
func checkSize(img *image, desc ocispec.Descriptor) error {
	if desc.Size != 0 || augment.IsEmpty(desc.Digest) {
		return nil
	}
	return front.Refuse(http.StatusForbidden, front.Denied, "the manifest of %s says that the blob %s has 0 bytes, which only the empty blob has; push the image again", img.pullName(), desc.Digest)
}

func etagOf(desc ocispec.Descriptor) string { return `"` + desc.Digest.String() + `"` }

func setBlobHeaders(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", blobType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", etagOf(desc))
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", blobstore.CacheControl)
	h.Set(front.SourceHeader, "upstream")
}

// redirect turns the headers of a blob into the headers of a redirect. The answer
// must not be kept, because such a location is usually good for minutes only.
func redirect(h http.Header, location string) {
	for _, name := range []string{"Content-Type", "Etag", "Accept-Ranges"} {
		h.Del(name)
	}
	h.Set("Cache-Control", "no-store")
	h.Set("Location", location)
	h.Set("Content-Length", "0")
}
