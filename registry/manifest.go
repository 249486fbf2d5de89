package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// serveManifest answers with a manifest by tag or digest. Range is ignored,
// because containerd sends bytes=0- with every request.
func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request, img *image, rt route) error {
	r.Header.Del("Range")
	want := rt.digest
	if rt.tag != "" {
		if rt.tag != img.grant.Tag {
			return front.Refuse(http.StatusNotFound, front.ManifestUnknown, "this token is for %s, not for the tag %q", img.pullName(), rt.tag)
		}
		want = img.grant.Root.Digest
	}
	desc, ok := img.manifests.get(want)
	if data, isSmall := img.small[want]; ok && isSmall {
		return blobstore.ServeBytes(w, r, data, desc)
	}
	if !ok && want == img.grant.Base {
		return front.Refuse(http.StatusForbidden, front.Denied,
			"%s is the digest of the base image, which this server augments: pull %s", want, img.pullName())
	}
	if !ok {
		var err error
		if desc, ok, err = img.late.manifest(r.Context(), img.store, s.options.Upstream.Repository(img.target), want); err != nil {
			return err
		}
	}
	if !ok {
		a, isOurs, err := img.attestationWith(r.Context(), want)
		if err != nil {
			return err
		}
		if isOurs && want == a.manifest.Digest {
			return blobstore.ServeBytes(w, r, a.manifest.Data, a.manifest.Descriptor())
		}
		return front.Refuse(http.StatusNotFound, front.ManifestUnknown, "the image %s has no manifest %s", img.pullName(), want)
	}
	if err := blobstore.Serve(w, r, img.store, desc); err != nil {
		return storeFault(img, want, err)
	}
	return nil
}

// serveTags lists the one tag that the token stands for, or none.
func serveTags(w http.ResponseWriter, r *http.Request, img *image, rt route) error {
	tags := []string{}
	if img.grant.Tag != "" {
		tags = append(tags, img.grant.Tag)
	}
	return serveJSON(w, r, "application/json", map[string]any{
		"name": "wt/" + string(rt.token) + "/" + rt.name,
		"tags": tags,
	})
}

func serveJSON(w http.ResponseWriter, r *http.Request, mediaType string, v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	r.Header.Del("Range")
	w.Header().Set("Content-Type", mediaType)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	return nil
}
