package registry

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
)

// serveManifest answers a manifest by tag or digest.
func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request, img *image, rt route) error {
	r.Header.Del("Range")
	want := rt.digest
	if rt.tag != "" {
		if rt.tag != img.grant.Tag {
			return refuse(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "this token is for %s, not for the tag %q", pullName(img), rt.tag)
		}
		want = img.grant.Root.Digest
	}
	if desc, ok := img.manifests[want]; ok {
		if err := blobstore.Serve(w, r, s.Store, desc); err != nil {
			return fmt.Errorf("serve manifest: %w", err)
		}
		return nil
	}
	if want == img.grant.Base {
		return refuse(http.StatusForbidden, errcode.ErrorCodeDenied,
			"%s is the digest of the base image, which this server augments: pull %s", want, pullName(img))
	}
	return s.serveUnread(w, r, img, want)
}

// pullName is the part of the image name after the token.
func pullName(img *image) string {
	if img.grant.Tag != "" {
		return img.target.Repository + ":" + img.grant.Tag
	}
	return img.target.Repository + "@" + img.grant.Root.Digest.String()
}

func (s *Server) serveUnread(w http.ResponseWriter, r *http.Request, img *image, want digest.Digest) error {
	img.mu.Lock()
	_, unread := img.unread[want]
	_, read := img.later[want]
	img.mu.Unlock()
	if !unread && !read {
		return refuse(http.StatusNotFound, errcode.ErrorCodeManifestUnknown, "the image %s has no manifest %s", pullName(img), want)
	}
	o, _, err := img.expand(r.Context(), s.Upstream.Repository(img.target), want)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Content-Type", o.MediaType)
	h.Set("Docker-Content-Digest", want.String())
	h.Set("Etag", `"`+want.String()+`"`)
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(o.Data))
	return nil
}

// serveTags names the one tag that the token stands for.
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

// serveReferrers answers that nothing refers to an augmented image: what the
// upstream says about the base is not about this.
func serveReferrers(w http.ResponseWriter, r *http.Request) error {
	return serveJSON(w, r, ocispec.MediaTypeImageIndex, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: []ocispec.Descriptor{},
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
