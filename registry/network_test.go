package registry

import (
	"bytes"
	"context"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// network has an upstream, and what servers share: a store, the records in it, a
// clock that stands still, and the recipes of the configuration.
type network struct {
	*upstreamtest.Registry // the upstream: docker.io, quay.io and registry.local:5000

	t       *testing.T
	client  *upstream.Client
	store   *blobstore.Dir
	dir     string // of store
	records *clockedGrants
	layer   augment.Layer // of the recipe "tools"

	mu      sync.Mutex
	now     time.Time
	recipes map[string]assemble.NamedRecipe
}

// newNetwork runs the test beside others, because all of them wait for the disk.
func newNetwork(t *testing.T) *network {
	t.Helper()
	t.Parallel()
	net := &network{t: t, Registry: upstreamtest.New(t), now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), recipes: map[string]assemble.NamedRecipe{}, dir: t.TempDir()}
	client, err := upstream.New(upstream.Options{Registries: map[string]upstream.Registry{
		"docker.io": {URL: net.URL}, "quay.io": {URL: net.URL}, "registry.local:5000": {URL: net.URL},
	}, Wait: new(upstreamtest.Pauses).Wait})
	if err != nil {
		t.Fatal(err)
	}
	net.client = client
	t.Cleanup(func() {
		client.CloseIdleConnections()
		http.DefaultTransport.(*http.Transport).CloseIdleConnections()
	})
	if net.store, err = blobstore.NewDir(net.dir); err != nil {
		t.Fatal(err)
	}
	key, err := auth.ParseKey([]byte("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="))
	if err != nil {
		t.Fatal(err)
	}
	grants, err := auth.NewGrants([]auth.Key{key}, net.store)
	if err != nil {
		t.Fatal(err)
	}
	net.records = &clockedGrants{Grants: grants, clock: net.clock, stored: map[string]time.Time{}}
	archive := archivetest.Layer(t, archivetest.File{Name: "opt/added", Text: "added", Mode: 0o644})
	net.layer, err = assemble.NewLayers(net.store, net.store, client, t.TempDir(), 1<<20).Inline(t.Context(), net.store, bytes.NewReader(archive), assemble.Expected{})
	if err != nil {
		t.Fatal(err)
	}
	net.setRecipe("tools", assemble.NamedRecipe{Recipe: augment.Recipe{Layers: []augment.Layer{net.layer}, Env: []string{"SECRET=xyzzy"}}, Identity: "recipe:tools"})
	return net
}

func (net *network) Enabled() bool {
	net.mu.Lock()
	defer net.mu.Unlock()
	return len(net.recipes) > 0
}

func (net *network) Recipe(name string) (assemble.NamedRecipe, bool) {
	net.mu.Lock()
	defer net.mu.Unlock()
	r, ok := net.recipes[name]
	return r, ok
}

func (net *network) Waiting(name string) bool { return name == "waiting" }

func (net *network) setRecipe(name string, r assemble.NamedRecipe) {
	net.mu.Lock()
	defer net.mu.Unlock()
	net.recipes[name] = r
}

func (net *network) removeRecipes() {
	net.mu.Lock()
	defer net.mu.Unlock()
	clear(net.recipes)
}

func (net *network) clock() time.Time {
	net.mu.Lock()
	defer net.mu.Unlock()
	return net.now
}

// advance moves the clock forward.
func (net *network) advance(d time.Duration) {
	net.mu.Lock()
	defer net.mu.Unlock()
	net.now = net.now.Add(d)
}

// clockedGrants stores grants with the time of the network's clock, and counts.
type clockedGrants struct {
	*auth.Grants
	clock func() time.Time

	mu     sync.Mutex
	stored map[string]time.Time
	puts   int
	gets   int
	fail   error // of Put
}

func (c *clockedGrants) Put(ctx context.Context, name string, g auth.Grant) error {
	return c.PutIndexed(ctx, name, g, nil)
}

func (c *clockedGrants) PutIndexed(ctx context.Context, name string, g auth.Grant, index []byte) error {
	c.mu.Lock()
	c.puts++
	c.stored[name] = c.clock().Truncate(time.Second)
	fail := c.fail
	c.mu.Unlock()
	if fail != nil {
		return fail
	}
	return c.Grants.PutIndexed(ctx, name, g, index)
}

func (c *clockedGrants) Get(ctx context.Context, name string) (*auth.Grant, time.Time, error) {
	g, _, err := c.Grants.Get(ctx, name)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gets++
	return g, c.stored[name], err
}

// written returns how many records were written since the last call.
func (c *clockedGrants) written() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.puts
	c.puts = 0
	return n
}
