package integration

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// tagLife is how long a server believes a tag without asking, and a little more.
const tagLife = 31 * time.Second

// moody stands before a registry and can have enough of it, or be gone.
type moody struct {
	*httptest.Server
	mood atomic.Int32
}

const (
	fine int32 = iota
	tooMany
	gone
)

func newMoody(t *testing.T, reg *upstream.Server) *moody {
	t.Helper()
	target, err := url.Parse(reg.URL)
	if err != nil {
		t.Fatal(err)
	}
	m := &moody{}
	next := httputil.NewSingleHostReverseProxy(target)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch m.mood.Load() {
		case tooMany:
			w.Header().Set("Retry-After", "60")
			http.Error(w, `{"errors":[{"code":"TOOMANYREQUESTS","message":"you have reached your pull rate limit"}]}`, http.StatusTooManyRequests)
		case gone:
			panic(http.ErrAbortHandler)
		default:
			next.ServeHTTP(w, r)
		}
	}))
	t.Cleanup(m.Close)
	return m
}

// TestRecipeTagsOutliveTheUpstream: what was pulled by tag can be pulled while the
// registry is down or refuses, and what was not is answered with a reason.
func TestRecipeTagsOutliveTheUpstream(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker", "busybox:oci")
	m := newMoody(t, reg)
	dir := t.TempDir()
	settings := withScripts(t, reg)
	settings["WAVEPROXY_REGISTRIES"] = fmt.Sprintf(`{docker.io: {url: %q}}`, m.URL)
	start := func() *proxy { return startProxy(t, dir, settings) } // until all steps have ended
	p := start()
	want, _ := namedManifest(t, p, "scripts/library/busybox", "docker")
	time.Sleep(tagLife)
	for _, step := range []struct {
		name    string
		mood    int32
		restart bool
		status  int
		says    []string
	}{
		{"too many requests", tooMany, false, http.StatusTooManyRequests, []string{"TOOMANYREQUESTS", "no more", "try again"}},
		{"too many requests, after a restart", tooMany, true, http.StatusTooManyRequests, []string{"TOOMANYREQUESTS", "no more", "try again"}},
		{"down, after a restart", gone, true, http.StatusBadGateway, []string{"no connection to " + strings.TrimPrefix(m.URL, "http://")}},
	} {
		t.Run(step.name, func(t *testing.T) {
			m.mood.Store(step.mood)
			if step.restart {
				p.stop()
				p = start()
			}
			tag := p.URL + "/v2/wt/scripts/library/busybox/manifests/"
			for range 3 {
				resp := do(t, http.MethodGet, tag+"docker")
				if got := sum([]byte(resp.body)); resp.status != http.StatusOK || got != want || resp.header.Get("Warning") == "" {
					t.Errorf("status %d, digest %s, want %s; warning %q", resp.status, got, want, resp.header.Get("Warning"))
				}
			}
			if !strings.Contains(p.Log.String(), "serving the last known tag") {
				t.Error("the log does not say so")
			}
			resp := do(t, http.MethodGet, tag+"oci")
			if resp.status != step.status {
				t.Errorf("a tag that nobody has pulled: status %d, want %d", resp.status, step.status)
			}
			for _, text := range step.says {
				if !strings.Contains(resp.body, text) {
					t.Errorf("the answer does not say %q: %s", text, resp.body)
				}
			}
		})
	}
	m.mood.Store(fine)
	// A registry that failed is left alone for a while.
	waitFor(t, 30*time.Second, func() bool {
		return do(t, http.MethodGet, p.URL+"/v2/wt/scripts/library/busybox/manifests/oci").status == http.StatusOK
	})
}

// TestRecipeReplicas pulls through nginx from two servers that share a storage,
// while a tag moves and a server is killed: what one has advertised, both have.
func TestRecipeReplicas(t *testing.T) {
	t.Parallel()
	nginx, ok := findNginx(t)
	if !ok {
		return
	}
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker", "busybox:oci", "busybox:multi", "busybox:entry")
	move := func(to string) {
		if err := crane.Tag(reg.Host+"/library/busybox:"+to, "moving", crane.Insecure); err != nil {
			t.Fatal(err)
		}
	}
	move("docker")
	certificate, key, _ := selfSigned(t)
	settings := withScripts(t, reg)
	r := startReplicas(t, nginx, settings, certificate, key)
	address := r.two.address(t)
	tags := []string{"moving", "oci", "multi", "entry"}
	// The servers themselves, too: nginx may send all of one client to one of them.
	from := []string{r.URL, r.one.URL, "http://" + address}
	from[1] = "http://" + r.one.address(t)
	var advertised sync.Map // digests by tag
	pulls := func(n int, servers []string) {
		t.Helper()
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := worker; i < n; i += 8 {
					tag := tags[i%len(tags)]
					root, err := pullThrough(t, servers, tag)
					if err != nil {
						t.Errorf("pull %d, %s: %v", i, tag, err)
						continue
					}
					seen, _ := advertised.LoadOrStore(tag, &sync.Map{})
					seen.(*sync.Map).Store(root, true)
				}
			})
		}
		wg.Wait()
	}
	count := func(tag string) (n int) {
		if seen, ok := advertised.Load(tag); ok {
			seen.(*sync.Map).Range(func(any, any) bool { n++; return true })
		}
		return n
	}
	pulls(200, from)
	move("oci")
	time.Sleep(tagLife)
	pulls(100, from)
	if n := count("moving"); n != 2 {
		t.Errorf("the tag that moved was seen as %d images, want 2", n)
	}
	r.two.kill()
	pulls(100, []string{r.URL, from[1]})
	settings["WAVEPROXY_HTTP_ADDR"] = address
	startProxy(t, r.Dir, settings)
	pulls(100, from)
	for _, server := range from[1:] {
		advertised.Range(func(tag, seen any) bool {
			seen.(*sync.Map).Range(func(root, _ any) bool {
				resp := do(t, http.MethodGet, server+"/v2/wt/scripts/library/busybox/manifests/"+root.(string))
				if got := sum([]byte(resp.body)); resp.status != http.StatusOK || got != root {
					t.Errorf("%s of %s at %s: status %d, digest %s", root, tag, server, resp.status, got)
				}
				return true
			})
			return true
		})
	}
}

// pullThrough pulls an image as an engine does, each request from any of the
// servers: HEAD by tag, then all that it leads to by digest.
func pullThrough(t *testing.T, servers []string, tag string) (root string, err error) {
	ask := func(method, path string) (response, error) {
		p := proxy{URL: servers[rand.IntN(len(servers))]}
		resp, err := p.call(t.Context(), method, "/v2/wt/scripts/library/busybox/"+path, "")
		if err == nil && resp.status != http.StatusOK {
			err = fmt.Errorf("%s %s at %s: status %d: %s", method, path, p.URL, resp.status, resp.body)
		}
		return resp, err
	}
	head, err := ask(http.MethodHead, "manifests/"+tag)
	if err != nil {
		return "", err
	}
	root = head.header.Get("Docker-Content-Digest")
	for want := root; ; {
		resp, err := ask(http.MethodGet, "manifests/"+want)
		if err != nil {
			return "", err
		}
		if got := sum([]byte(resp.body)); got != want {
			return "", fmt.Errorf("%s has the digest %s", want, got)
		}
		var m struct {
			ocispec.Manifest
			Manifests []ocispec.Descriptor
		}
		if err := json.Unmarshal([]byte(resp.body), &m); err != nil {
			return "", err
		}
		if len(m.Manifests) > 0 {
			want = m.Manifests[rand.IntN(len(m.Manifests))].Digest.String()
			continue
		}
		for _, d := range append(m.Layers, m.Config) {
			blob, err := ask(http.MethodGet, "blobs/"+d.Digest.String())
			if err != nil {
				return "", err
			}
			if got := sum([]byte(blob.body)); got != d.Digest.String() {
				return "", fmt.Errorf("%s has the digest %s", d.Digest, got)
			}
		}
		return root, nil
	}
}
