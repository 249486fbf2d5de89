package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"regexp"
	"strconv"
	"strings"

	"github.com/distribution/distribution/v3/registry/api/errcode"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/registry/upstream"
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
	return refuse(http.StatusNotFound, errcode.ErrorCodeBlobUnknown, "the image %s has no blob %s", pullName(img), d)
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

// SourceHeader says where a blob came from: "injected" or "upstream".
// "waveproxy inspect" shows it.
const SourceHeader = "Waveproxy-Source"

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
	w.Header().Set(SourceHeader, "injected")
	note(r.Context()).source = "injected"
	if err := blobstore.Serve(w, r, b.store, desc); err != nil {
		return lost(img, err)
	}
	return nil
}

// upstreamBlobs streams what the upstream has.
type upstreamBlobs struct {
	client *upstream.Client
	proxy  *httputil.ReverseProxy
}

func newUpstreamBlobs(client *upstream.Client, log *slog.Logger) upstreamBlobs {
	return upstreamBlobs{client: client, proxy: &httputil.ReverseProxy{
		Rewrite:        rewriteBlobRequest,
		Transport:      client.Transport(),
		ModifyResponse: checkBlobResponse,
		ErrorHandler: func(w http.ResponseWriter, r *http.Request, err error) {
			writeError(w, r, err)
		},
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug), // the access log has the error
	}}
}

type blobKey struct{}

// blobTarget is what the proxy's hooks need to know of a request.
type blobTarget struct {
	desc  ocispec.Descriptor
	image *image
	repo  *upstream.Repository
}

func (b upstreamBlobs) serveBlob(w http.ResponseWriter, r *http.Request, img *image, d digest.Digest) error {
	desc, ok := img.blob(d)
	if !ok {
		return blobstore.ErrNotFound
	}
	note(r.Context()).source = "upstream"
	h := w.Header()
	setBlobHeaders(h, desc)
	if matchesETag(r, desc.Digest) {
		w.WriteHeader(http.StatusNotModified)
		return nil
	}
	if r.Method == http.MethodHead {
		h.Set("Content-Length", strconv.FormatInt(desc.Size, 10))
		w.WriteHeader(http.StatusOK)
		return nil
	}
	target := blobTarget{desc, img, b.client.Repository(img.target)}
	ctx := upstream.WithTarget(r.Context(), img.target)
	b.proxy.ServeHTTP(w, r.WithContext(context.WithValue(ctx, blobKey{}, target)))
	return nil
}

func setBlobHeaders(h http.Header, desc ocispec.Descriptor) {
	h.Set("Content-Type", blobType)
	h.Set("Docker-Content-Digest", desc.Digest.String())
	h.Set("Etag", `"`+desc.Digest.String()+`"`)
	h.Set("Accept-Ranges", "bytes")
	h.Set("Cache-Control", blobstore.CacheControl)
	h.Set(SourceHeader, "upstream")
}

func matchesETag(r *http.Request, d digest.Digest) bool {
	for tag := range strings.SplitSeq(r.Header.Get("If-None-Match"), ",") {
		if tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag == "*" || tag == `"`+d.String()+`"` {
			return true
		}
	}
	return false
}

// rewriteBlobRequest builds the upstream request from the image, not from the
// client's: only the range passes, and neither credentials nor addresses do.
func rewriteBlobRequest(p *httputil.ProxyRequest) {
	target := p.In.Context().Value(blobKey{}).(blobTarget)
	p.Out.URL = target.repo.BlobURL(target.desc.Digest)
	p.Out.Host = ""
	p.Out.Header = http.Header{}
	// If-Range would be compared with the upstream's ETag, which is not ours;
	// under one digest the bytes are always the same, so it always holds.
	if v := p.In.Header.Get("Range"); v != "" {
		p.Out.Header.Set("Range", v)
	}
}

// checkBlobResponse lets through what continues as the blob that was asked
// for, and turns everything else into an error of ours.
func checkBlobResponse(resp *http.Response) error {
	target := resp.Request.Context().Value(blobKey{}).(blobTarget)
	h := http.Header{}
	switch resp.StatusCode {
	case http.StatusOK:
		if n := resp.ContentLength; n >= 0 && n != target.desc.Size {
			return target.repo.BadBlob(target.desc, fmt.Sprintf("sent %d bytes where the manifest says %d", n, target.desc.Size))
		}
		h.Set("Content-Length", strconv.FormatInt(target.desc.Size, 10))
	case http.StatusPartialContent:
		h.Set("Content-Range", resp.Header.Get("Content-Range"))
		if resp.ContentLength >= 0 {
			h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
		}
	case http.StatusRequestedRangeNotSatisfiable:
		resp.Body.Close()
		resp.Body = http.NoBody
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", target.desc.Size))
		h.Set("Content-Length", "0")
	default:
		return target.repo.BlobError(target.desc, resp)
	}
	resp.Header = h
	return nil
}
