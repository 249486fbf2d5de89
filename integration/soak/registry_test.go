package soak

import (
	"bytes"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// registry is an upstream on loopback.
type registry struct {
	host  string
	delay time.Duration
	// blob, if set, may answer a request for a blob before the stored blobs are
	// looked up. It reports whether it did.
	blob     func(w http.ResponseWriter, r *http.Request, d digest.Digest) bool
	requests atomic.Int64

	mu        sync.Mutex
	documents map[string]document // by path
	server    *http.Server
}

type document struct {
	mediaType string
	data      []byte
}

// startRegistry listens at an address of loopback.
func startRegistry(address string, delay time.Duration) (*registry, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	r := &registry{host: l.Addr().String(), delay: delay, documents: map[string]document{}}
	r.server = &http.Server{Handler: r, ReadHeaderTimeout: time.Minute}
	go func() { _ = r.server.Serve(l) }() // until it is closed
	return r, nil
}

func (r *registry) close() { _ = r.server.Close() }

func (r *registry) put(repository string, data []byte) {
	r.set("/v2/"+repository+"/blobs/"+digest.FromBytes(data).String(), document{"application/octet-stream", data})
}

func (r *registry) putManifest(repository, tag, mediaType string, data []byte) ocispec.Descriptor {
	d := descriptor(mediaType, data)
	for _, name := range []string{tag, d.Digest.String()} {
		r.set("/v2/"+repository+"/manifests/"+name, document{mediaType, data})
	}
	return d
}

func (r *registry) set(path string, d document) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.documents[path] = d
}

func (r *registry) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.requests.Add(1)
	select {
	case <-time.After(r.delay):
	case <-req.Context().Done():
		return
	}
	r.mu.Lock()
	d, ok := r.documents[req.URL.Path]
	answer := r.blob
	r.mu.Unlock()
	if _, ref, isBlob := strings.Cut(req.URL.Path, "/blobs/"); isBlob && answer != nil && answer(w, req, digest.Digest(ref)) {
		return
	}
	if req.URL.Path == "/v2/" {
		return
	}
	if !ok {
		http.Error(w, `{"errors":[{"code":"NOT_FOUND"}]}`, http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", d.mediaType)
	http.ServeContent(w, req, "", time.Time{}, bytes.NewReader(d.data))
}
