package registry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/registry"
	"github.com/waveproxy/waveproxy/upstream"
)

// BenchmarkServe answers requests over one connection. Client and upstream
// allocate next to nothing, so the measured allocations are the server's,
// including net/http's.
func BenchmarkServe(b *testing.B) {
	const token = auth.Token("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")
	store, err := blobstore.NewDir(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	injected, foreign := bytes.Repeat([]byte("injected"), 128<<10), bytes.Repeat([]byte("upstream"), 128<<10)
	put := func(mediaType string, data []byte) ocispec.Descriptor {
		d := ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
		if err := store.Put(b.Context(), d.Digest, bytes.NewReader(data)); err != nil {
			b.Fatal(err)
		}
		return d
	}
	config := put(ocispec.MediaTypeImageConfig, []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}`))
	layers := []ocispec.Descriptor{
		{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(foreign), Size: int64(len(foreign))},
		put(ocispec.MediaTypeImageLayerGzip, injected),
	}
	manifest, err := json.Marshal(ocispec.Manifest{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageManifest, Config: config, Layers: layers})
	if err != nil {
		b.Fatal(err)
	}
	root := put(ocispec.MediaTypeImageManifest, manifest)
	client, err := upstream.New(upstream.Options{Registries: map[string]upstream.Registry{"docker.io": {URL: "http://" + serveFixed(b, foreign)}}})
	if err != nil {
		b.Fatal(err)
	}
	defer client.CloseIdleConnections()
	log := slog.New(slog.DiscardHandler)
	server := httptest.NewServer(front.Front{Log: log}.Handler(registry.New(registry.Options{
		Tokens: oneToken{token, &auth.Grant{
			Image: "docker.io/library/base", Tag: "1", Base: digest.FromString("base"), Root: root,
			Objects: []digest.Digest{root.Digest, config.Digest}, Injected: []digest.Digest{layers[1].Digest},
		}},
		Store: store, Upstream: client, Log: log,
	})))
	defer server.Close()
	for _, test := range []struct {
		name, method, path string
		size               int64
	}{
		{"manifest", http.MethodGet, "manifests/1", root.Size},
		{"upstream head", http.MethodHead, "blobs/" + layers[0].Digest.String(), 0},
		{"upstream blob", http.MethodGet, "blobs/" + layers[0].Digest.String(), layers[0].Size},
		{"injected blob", http.MethodGet, "blobs/" + layers[1].Digest.String(), layers[1].Size},
	} {
		b.Run(test.name, func(b *testing.B) {
			conn, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close()
			request := fmt.Appendf(nil, "%s /v2/wt/%s/library/base/%s HTTP/1.1\r\nHost: localhost\r\n\r\n", test.method, token, test.path)
			buffer := make([]byte, 256<<10)
			b.SetBytes(test.size)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := conn.Write(request); err != nil {
					b.Fatal(err)
				}
				if err := readAnswer(conn, buffer, test.size); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// readAnswer reads a header and the size bytes after it.
func readAnswer(r io.Reader, buffer []byte, size int64) error {
	n, end := 0, -1
	for end < 0 {
		m, err := r.Read(buffer[n:])
		if err != nil {
			return err
		}
		n += m
		end = bytes.Index(buffer[:n], []byte("\r\n\r\n"))
	}
	if !bytes.HasPrefix(buffer, []byte("HTTP/1.1 200 ")) {
		return fmt.Errorf("answer %.200q", buffer[:n])
	}
	for left := size - int64(n-end-4); left > 0; {
		m, err := r.Read(buffer[:min(left, int64(len(buffer)))])
		if err != nil {
			return err
		}
		left -= int64(m)
	}
	return nil
}

// serveFixed starts a server that answers every request with the body, and
// returns its address.
func serveFixed(b *testing.B, body []byte) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
	var serving sync.WaitGroup
	b.Cleanup(func() {
		listener.Close()
		serving.Wait()
	})
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			serving.Go(func() {
				defer conn.Close()
				buffer := make([]byte, 4096)
				for n := 0; ; {
					m, err := conn.Read(buffer[n:])
					if err != nil {
						return
					}
					if n += m; bytes.HasSuffix(buffer[:n], []byte("\r\n\r\n")) {
						n = 0
						if _, err := conn.Write(answer); err != nil {
							return
						}
					}
				}
			})
		}
	})
	return listener.Addr().String()
}

// oneToken opens one token and refuses all others.
type oneToken struct {
	token auth.Token
	grant *auth.Grant
}

func (o oneToken) Open(_ context.Context, t auth.Token) (*auth.Grant, error) {
	if t != o.token {
		return nil, auth.ErrUnknownToken
	}
	return o.grant, nil
}
