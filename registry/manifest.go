package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
)

// serveManifest answers a manifest by tag or digest.
func (s *Server) serveManifest(w http.ResponseWriter, r *http.Request, img *image, rt route) error {
	r.Header.Del("Range")
	want := rt.digest
	if rt.tag != "" {
		if rt.tag != img.grant.Tag {
			return front.Refuse(http.StatusNotFound, front.ManifestUnknown, "this token is for %s, not for the tag %q", pullName(img), rt.tag)
		}
		want = img.grant.Root.Digest
	}
	desc, ok := img.manifests[want]
	if !ok && want == img.grant.Base {
		return front.Refuse(http.StatusForbidden, front.Denied,
			"%s is the digest of the base image, which this server augments: pull %s", want, pullName(img))
	}
	if !ok {
		var err error
		if desc, ok, err = s.unreadManifest(r.Context(), img, want); err != nil {
			return err
		}
	}
	if !ok {
		if a, isOurs := img.attesting(want); isOurs && want == a.manifest.Digest {
			blobstore.ServeBytes(w, r, a.manifest.Data, a.manifest.Descriptor())
			return nil
		}
		return front.Refuse(http.StatusNotFound, front.ManifestUnknown, "the image %s has no manifest %s", pullName(img), want)
	}
	if data, ok := img.atHand[want]; ok {
		blobstore.ServeBytes(w, r, data, desc)
		return nil
	}
	if err := blobstore.Serve(w, r, s.Store, desc); err != nil {
		return lost(img, err)
	}
	return nil
}

// unreadManifest returns a manifest that belongs to the image and was not read
// when its token was minted.
func (s *Server) unreadManifest(ctx context.Context, img *image, want digest.Digest) (ocispec.Descriptor, bool, error) {
	img.mu.Lock()
	_, unread := img.unread[want]
	_, read := img.later[want]
	img.mu.Unlock()
	if !unread && !read {
		return ocispec.Descriptor{}, false, nil
	}
	return img.expand(ctx, s.Store, s.Upstream.Repository(img.target), want)
}

// lost is the error for bytes that the image promises and the store does not
// have: a failure of ours, and not a name that does not exist.
func lost(img *image, err error) error {
	return fmt.Errorf("serve %s: %v", pullName(img), err)
}

// pullName is the part of the image name after the token.
func pullName(img *image) string {
	if img.grant.Tag != "" {
		return auth.Redact(img.target.Repository) + ":" + img.grant.Tag
	}
	return auth.Redact(img.target.Repository) + "@" + img.grant.Root.Digest.String()
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
