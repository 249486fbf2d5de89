package demo

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/waveproxy/waveproxy/blobstore"
)

// StartRegistry starts a registry on a free port of 127.0.0.1, over plain HTTP,
// that has the demo image as Repository:Tag and takes no pushes. It runs until
// stop is called or ctx ends; call stop in any case.
func StartRegistry(ctx context.Context) (host string, stop func(), err error) {
	if err := ctx.Err(); err != nil {
		return "", nil, fmt.Errorf("start demo registry: %w", err)
	}
	image, err := buildImage(ctx)
	if err != nil {
		return "", nil, err
	}
	root, err := image.Resolve(ctx, Tag)
	if err != nil {
		return "", nil, fmt.Errorf("start demo registry: %w", err)
	}
	s := shelf{}
	if err := s.fill(ctx, image, root); err != nil {
		return "", nil, fmt.Errorf("start demo registry: %w", err)
	}
	s[Tag] = s[root.Digest.String()]
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, fmt.Errorf("start demo registry: %w", err)
	}
	server := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	ctx, cancel := context.WithCancel(ctx)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(listener) }) // ends with Close only
	context.AfterFunc(ctx, func() { _ = server.Close() })
	return listener.Addr().String(), func() {
		cancel()
		_ = server.Close()
		serving.Wait()
	}, nil
}

// shelf has the parts of an image by digest, and its root by tag, too.
type shelf map[string]part

type part struct {
	ocispec.Descriptor
	data []byte
}

// fill puts a part of the image on the shelf, and the parts that it names.
func (s shelf) fill(ctx context.Context, image oras.ReadOnlyTarget, desc ocispec.Descriptor) error {
	data, err := content.FetchAll(ctx, image, desc)
	if err != nil {
		return err
	}
	s[desc.Digest.String()] = part{desc, data}
	next, err := content.Successors(ctx, image, desc)
	if err != nil {
		return err
	}
	for _, d := range next {
		if err := s.fill(ctx, image, d); err != nil {
			return err
		}
	}
	return nil
}

func (s shelf) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v2/{$}", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v2/"+Repository+"/manifests/{name}", s.serve)
	mux.HandleFunc("GET /v2/"+Repository+"/blobs/{name}", s.serve)
	return mux
}

func (s shelf) serve(w http.ResponseWriter, r *http.Request) {
	p, ok := s[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	_ = blobstore.ServeBytes(w, r, p.data, p.Descriptor)
}

// plainRepository is a repository of a registry that speaks plain HTTP and is
// reached without a proxy. hangUp closes idle connections.
func plainRepository(ref string) (r *remote.Repository, hangUp func(), err error) {
	if r, err = remote.NewRepository(ref); err != nil {
		return nil, nil, fmt.Errorf("image name %q: %w", ref, err)
	}
	transport := &http.Transport{ResponseHeaderTimeout: 30 * time.Second, DisableCompression: true}
	r.Client = &auth.Client{Client: &http.Client{Transport: transport}}
	r.PlainHTTP = true
	return r, transport.CloseIdleConnections, nil
}
