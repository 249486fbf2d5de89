package registry

import (
	"net/http"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// storedBlobs serves the image's configs and injected layers from the store. It
// declines any other blob, even if the store has it: a digest is not a permission.
type storedBlobs struct{}

func (storedBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.storedBlob(d)
	if !ok {
		return errDecline
	}
	desc.MediaType = blobType
	noteInjected(w, r)
	if located, ok := img.store.(blobstore.Located); ok && r.Method == http.MethodGet {
		location, err := located.URL(r.Context(), desc)
		if err == nil && location != "" {
			front.RecordOf(r.Context()).Source = "redirect"
			w.Header().Set("Docker-Content-Digest", d.String())
			redirect(w.Header(), location)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return nil
		}
		// Without a place elsewhere it is served from here, or the error shows again.
	}
	if err := blobstore.Serve(w, r, img.store, desc); err != nil {
		return storeFault(img, d, err)
	}
	return nil
}
