package registry

import (
	"errors"
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/front"
)

// blobSource is one place that blobs of an image may come from.
type blobSource interface {
	// serveBlob writes a whole response and returns nil, or writes nothing and
	// returns an error. It may have set headers then, which front.WriteError removes.
	// errDecline passes the request on to the next source. A response that has begun
	// and cannot be completed ends in the panic of abort.
	serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error
}

// errDecline is a source's answer to a request that another source may serve. It
// never reaches a client.
var errDecline = errors.New("this source does not serve the blob")

// blobType is the Content-Type of all blobs. Their media type is in the manifest.
const blobType = "application/octet-stream"

// serveBlob asks each source in turn. A digest that every source declines may
// belong to a manifest that has not been read. Whatever the source, a blob that is sent
// counts as a stream of the client until it has ended.
func (s *Server) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	if r.Method == http.MethodGet {
		release, err := holdStream(r.Context())
		if err != nil {
			return err
		}
		defer release()
	}
	err := s.blobs.serveBlob(w, r, img, d)
	if err != errDecline {
		return err
	}
	if _, isManifest := img.manifests[d]; !isManifest {
		if err := img.late.readFor(r.Context(), img.store, s.options.Upstream.Repository(img.target), d); err != nil {
			return err
		}
		if err = s.blobs.serveBlob(w, r, img, d); err != errDecline {
			return err
		}
	}
	return front.Refuse(http.StatusNotFound, front.BlobUnknown, "the image %s has no blob %s", img.pullName(), d)
}

// blobSources asks its sources in order. It is a blobSource itself.
type blobSources []blobSource

func (b blobSources) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	for _, source := range b {
		if err := source.serveBlob(w, r, img, d); err != errDecline {
			return err
		}
	}
	return errDecline
}

// noteInjected says in the answer's header and in the access log that this server
// added the blob to the image.
func noteInjected(w http.ResponseWriter, r *http.Request) {
	w.Header().Set(front.SourceHeader, "injected")
	front.RecordOf(r.Context()).Source = "injected"
}
