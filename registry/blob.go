package registry

import (
	"errors"
	"net/http"
	"regexp"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// blobSource is one place that blobs of an image may come from.
type blobSource interface {
	// serveBlob writes a whole response and returns nil, or writes nothing and
	// returns an error. blobstore.ErrNotFound means: ask the next source.
	serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error
}

// singleRange is the form of Range that is honoured. Any other is ignored and
// the whole blob sent, as RFC 9110 allows for all and wants for unknown units;
// no engine reads answers of several parts.
var singleRange = regexp.MustCompile(`^bytes=(\d+-\d*|-\d+)$`)

// serveBlob asks each source in turn. A digest that no source knows may still
// belong to a manifest that nobody has asked for yet.
func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	if !singleRange.MatchString(r.Header.Get("Range")) {
		r.Header.Del("Range")
	}
	err := s.fromSources(w, r, img, d)
	if !errors.Is(err, blobstore.ErrNotFound) {
		return err
	}
	if _, isManifest := img.manifests[d]; !isManifest {
		if _, _, err := img.expand(r.Context(), s.Store, s.Upstream.Repository(img.target), d); err != nil {
			return err
		}
		if err = s.fromSources(w, r, img, d); !errors.Is(err, blobstore.ErrNotFound) {
			return err
		}
	}
	return front.Refuse(http.StatusNotFound, front.BlobUnknown, "the image %s has no blob %s", pullName(img), d)
}

func (s *Server) fromSources(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	for _, source := range s.sources {
		if err := source.serveBlob(w, r, img, d); !errors.Is(err, blobstore.ErrNotFound) {
			return err
		}
	}
	return blobstore.ErrNotFound
}

// blobType is what blobs are served as. Their media type is in the manifest.
const blobType = "application/octet-stream"

// storedBlobs serves the image's configs and injected layers.
type storedBlobs struct{ store blobstore.Store }

func (b storedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.injected[d]
	if !ok {
		if desc, ok = img.configs[d]; !ok {
			return blobstore.ErrNotFound
		}
	}
	desc.MediaType = blobType
	w.Header().Set(front.SourceHeader, "injected")
	front.RecordOf(r.Context()).Source = "injected"
	if err := blobstore.Serve(w, r, b.store, desc); err != nil {
		return lost(img, err)
	}
	return nil
}
