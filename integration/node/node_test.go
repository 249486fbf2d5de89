package node

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// recorder stands before a server and records the requests.
type recorder struct {
	*httptest.Server
	mu       sync.Mutex
	requests []string
}

func record(t *testing.T, p *harness.Proxy) *recorder {
	t.Helper()
	target, err := url.Parse(p.URL)
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{}
	next := httputil.NewSingleHostReverseProxy(target)
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.requests = append(r.requests, req.Method+" "+req.URL.RequestURI())
		r.mu.Unlock()
		next.ServeHTTP(w, req)
	}))
	t.Cleanup(r.Close)
	return r
}

// take returns the requests since the last call, sorted, because blobs come in
// any order.
func (r *recorder) take() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	list := r.requests
	r.requests = nil
	slices.Sort(list)
	return list
}

// TestNodes pulls images by their own names on nodes that hosts.toml files send to
// the server.
func TestNodes(t *testing.T) {
	for _, release := range engine.Releases {
		t.Run("containerd "+release, func(t *testing.T) {
			node, ok := engine.StartNode(t, release)
			if !ok {
				return
			}
			n := nodeTest{Node: node, reg: upstream.Registry(t), has: map[digest.Digest]bool{}}
			n.digests = upstream.Push(t, n.reg.Host, "busybox:docker", "busybox:oci", "busybox:multi", "busybox:entry")
			n.p = harness.StartProxy(t, "", harness.WithScripts(t, n.reg))
			n.seen = record(t, n.p)
			pause := n.p.Augment(t, harness.Request{ContainerImage: "busybox:docker", ContainerConfig: &harness.Config{Entrypoint: []string{"/bin/sleep"}, Cmd: []string{"1000000"}}})
			if err := n.SetPause(t.Context(), pause.TargetImage); err != nil {
				t.Fatal(err)
			}
			n.blobs(t, pause.ContainerToken+"/library/busybox", "docker") // notes that the node has these blobs now
			t.Run("a tag", n.tag)
			t.Run("with ctr", n.ctr)
			t.Run("pinned", n.pinned)
			t.Run("all registries", n.all)
			n.seen.Close()
			t.Run("server down", n.down)
			t.Run("server down, required", n.required)
		})
	}
}

type nodeTest struct {
	*engine.Node
	reg     *upstream.Server
	digests map[string]digest.Digest
	p       *harness.Proxy
	seen    *recorder
	has     map[digest.Digest]bool // blobs that the node has
}

// hosts runs "waveproxy hosts". No test may reach the real Docker Hub, so hosts
// replaces it in the file by the local registry.
func (n nodeTest) hosts(t *testing.T, args ...string) {
	t.Helper()
	if _, stderr, err := harness.Run(t, nil, slices.Concat([]string{"hosts", "--dir", n.CertsDir}, args)...); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	path := filepath.Join(n.CertsDir, "docker.io", "hosts.toml")
	text, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	harness.WriteFile(t, path, strings.ReplaceAll(string(text), "https://registry-1.docker.io", n.reg.URL), 0o644)
}

func (n nodeTest) pull(t *testing.T, ref string) {
	t.Helper()
	if out, err := n.Pull(t.Context(), ref); err != nil {
		t.Fatalf("pull %s: %v\n%s", ref, err, out)
	}
}

// says runs a pulled image and fails the test unless it prints want.
func (n nodeTest) says(t *testing.T, ref, want string, command ...string) {
	t.Helper()
	out, err := n.Run(t.Context(), ref, command, nil)
	if err != nil {
		t.Fatalf("run %s: %v", ref, err)
	}
	if out != want {
		t.Errorf("%s says %q, want %q", ref, out, want)
	}
}

// isPlain fails the test if an image has any part of the recipe.
func (n nodeTest) isPlain(t *testing.T, ref string) {
	t.Helper()
	n.says(t, ref, "none\n", "/bin/sh", "-c", `test ! -e /opt/scripts && echo "${GREETING-none}"`)
}

// blobs returns the digest of an image's manifest, and those of its blobs that
// the node has to pull.
func (n nodeTest) blobs(t *testing.T, name, tag string) (root string, blobs []digest.Digest) {
	t.Helper()
	root, m := harness.NamedManifest(t, n.p, name, tag)
	for _, d := range append(m.Layers, m.Config) {
		if !n.has[d.Digest] {
			blobs = append(blobs, d.Digest)
		}
		n.has[d.Digest] = true
	}
	return root, blobs
}

// asked returns the requests of a pull of an image with one manifest. name is the
// repository's name in requests without ns.
func (n nodeTest) asked(t *testing.T, name, tag, ns string) []string {
	t.Helper()
	root, blobs := n.blobs(t, "scripts/"+name, tag)
	const path = "/v2/wt/scripts/library/busybox/"
	query := "?ns=" + url.QueryEscape(ns)
	want := []string{"HEAD " + path + "manifests/" + tag + query, "GET " + path + "manifests/" + root + query}
	for _, d := range blobs {
		want = append(want, "GET "+path+"blobs/"+d.String()+query)
	}
	slices.Sort(want)
	return want
}

func (n nodeTest) tag(t *testing.T) {
	n.hosts(t, "docker.io", "--recipe", "scripts", "--server", n.seen.URL)
	const ref = "docker.io/library/busybox:docker"
	n.seen.take()
	n.pull(t, ref)
	if diff := cmp.Diff(n.asked(t, "library/busybox", "docker", "docker.io"), n.seen.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	n.says(t, ref, harness.ScriptsGreeting, "/opt/scripts/hello")
}

func (n nodeTest) ctr(t *testing.T) {
	const ref = "docker.io/library/busybox:multi"
	if out, err := n.PullWithCtr(t.Context(), ref); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if got := n.seen.take(); !slices.Contains(got, "HEAD /v2/wt/scripts/library/busybox/manifests/multi?ns=docker.io") {
		t.Errorf("requests %q", got)
	}
	n.says(t, ref, harness.ScriptsGreeting, "/opt/scripts/hello")
}

// pinned pulls by digest: the image must be the registry's, byte for byte.
func (n nodeTest) pinned(t *testing.T) {
	ref := "docker.io/library/busybox@" + n.digests["busybox:entry"].String()
	n.pull(t, ref)
	if got := n.seen.take(); !slices.Contains(got, "GET /v2/wt/scripts/library/busybox/manifests/"+n.digests["busybox:entry"].String()+"?ns=docker.io") {
		t.Errorf("requests %q", got)
	}
	n.says(t, ref, "hello\n", "/bin/sh", "-c", `test ! -e /opt/scripts && echo "$GREETING"`) // the base image's own variable
	if !strings.Contains(n.p.Log.String(), `"untouched":true`) {
		t.Error("the log does not say that an image was left as it is")
	}
	if metrics := string(n.p.Metrics(t)); !strings.Contains(metrics, "\nwaveproxy_untouched_manifests_total 1\n") {
		t.Errorf("the metrics do not count it: %s", metrics)
	}
}

// all tests one hosts.toml file for all registries.
func (n nodeTest) all(t *testing.T) {
	n.hosts(t, "docker.io", "--remove")
	n.hosts(t, "_default", "--recipe", "scripts", "--server", n.seen.URL)
	ref := n.reg.Host + "/library/busybox:entry"
	n.seen.take()
	n.pull(t, ref)
	if diff := cmp.Diff(n.asked(t, "team.test/library/busybox", "entry", n.reg.Host), n.seen.take()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	n.says(t, ref, harness.ScriptsGreeting, "/opt/scripts/hello")
	n.hosts(t, "--remove")
}

// down stops the server: containerd then asks the registry itself.
func (n nodeTest) down(t *testing.T) {
	n.hosts(t, "docker.io", "--recipe", "scripts", "--server", n.seen.URL)
	const ref = "docker.io/library/busybox:oci"
	n.pull(t, ref)
	n.isPlain(t, ref)
}

// required stops the server with --required files: containerd then does not ask
// the registry.
func (n nodeTest) required(t *testing.T) {
	n.hosts(t, "docker.io", "--recipe", "scripts", "--server", n.seen.URL, "--required")
	n.reg.Reset()
	if out, err := n.Pull(t.Context(), "docker.io/library/busybox:entry"); err == nil {
		t.Errorf("a plain image was pulled: %s", out)
	}
	if got := n.reg.Requests(); len(got) > 0 {
		t.Errorf("the registry got the requests %q", got)
	}
}
