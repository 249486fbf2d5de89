package registry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// replica is a server of the network, with its own memory.
type replica struct {
	net    *network
	server *Server
	proxy  *httptest.Server

	mu   sync.Mutex
	logs bytes.Buffer
	seen []front.Request
}

func (r *replica) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.Write(p)
}

// logged counts the lines with a text.
func (r *replica) logged(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Count(r.logs.String(), text)
}

func (net *network) start(options ...func(*Options)) *replica {
	net.t.Helper()
	r := &replica{net: net}
	log := slog.New(slog.NewTextHandler(r, nil))
	resolver := assemble.NewResolver(net.client, assemble.NewLayers(net.store, net.store, net.client, net.t.TempDir(), 1<<20), net.store, 125)
	resolver.Builder = auth.Builder{ID: "https://proxy.example.org", Version: "1.2.3"}
	o := Options{Tokens: fakeTokens{}, Store: net.store, Upstream: net.client, Log: log, Recipes: net, Resolver: resolver, Grants: net.records, Records: net.store, now: net.clock,
		Aliases: map[string]string{"registry.local": "registry.local:5000"}}
	for _, set := range options {
		set(&o)
	}
	r.server = New(o)
	r.proxy = httptest.NewServer(front.Front{Log: log, Observe: func(q front.Request) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.seen = append(r.seen, q)
	}}.Handler(r.server))
	net.t.Cleanup(r.proxy.Close)
	return r
}

func limited(events int) func(*Options) {
	return func(o *Options) { o.Pulls = ratelimit.New(ratelimit.Rate{Events: events, Per: time.Hour}) }
}

type answer struct {
	status int
	header http.Header
	body   []byte
}

func (a answer) digest() digest.Digest { return digest.Digest(a.header.Get("Docker-Content-Digest")) }

// do sends a request for a path below /v2/wt/.
func (r *replica) do(method, path string) answer {
	r.net.t.Helper()
	a, err := r.try(r.net.t.Context(), method, path)
	if err != nil {
		r.net.t.Fatal(err)
	}
	return a
}

func (r *replica) try(ctx context.Context, method, path string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.proxy.URL+"/v2/wt/"+path, nil)
	if err != nil {
		return answer{}, err
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		return answer{}, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return answer{resp.StatusCode, resp.Header, body}, err
}

// get is do for GET. It expects 200 and bytes with the digest in the header.
func (r *replica) get(path string) answer {
	r.net.t.Helper()
	a := r.do("GET", path)
	if a.status != http.StatusOK || a.digest() != digest.FromBytes(a.body) {
		r.net.t.Fatalf("%s: status %d, digest %s of %.300s", path, a.status, a.digest(), a.body)
	}
	return a
}

// pull gets the manifest or index, and all manifests and blobs below it, from the
// servers in turn. It returns all digests.
func pull(t *testing.T, repository, ref string, servers ...*replica) []digest.Digest {
	t.Helper()
	turn := 0
	next := func() *replica { turn++; return servers[turn%len(servers)] }
	root := next().get(repository + "/manifests/" + ref)
	found := []digest.Digest{root.digest()}
	var visit func(body []byte)
	visit = func(body []byte) {
		refs, err := augment.Object{Data: body}.References(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range refs.Manifests {
			next().do("HEAD", fmt.Sprintf("%s/manifests/%s", repository, m.Digest))
			a := next().get(fmt.Sprintf("%s/manifests/%s", repository, m.Digest))
			found = append(found, m.Digest)
			visit(a.body)
		}
		if refs.Config != nil && refs.Config.Digest != ocispec.DescriptorEmptyJSON.Digest {
			refs.Layers = append(refs.Layers, *refs.Config)
		}
		for _, b := range refs.Layers {
			if a := next().get(fmt.Sprintf("%s/blobs/%s", repository, b.Digest)); a.digest() != b.Digest {
				t.Errorf("blob %s has the digest %s", b.Digest, a.digest())
			}
			found = append(found, b.Digest)
		}
	}
	visit(root.body)
	return found
}
