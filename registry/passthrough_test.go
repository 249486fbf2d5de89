package registry

import (
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestNamedPinned: a digest that was not advertised is the upstream's, byte for
// byte, and is fetched once.
func TestNamedPinned(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	img := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	root := img.Index.Digest().String()
	for range 3 {
		if a := s.do("HEAD", toolsApp+root); a.status != 200 || a.header.Get("Content-Type") != img.Index.MediaType {
			t.Errorf("status %d, %v", a.status, a.header)
		}
		if a := s.get(toolsApp + root); !bytes.Equal(a.body, img.Index.Data) {
			t.Errorf("got %s", a.body)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+root)
	if n := net.records.written(); n != 1 {
		t.Errorf("%d records for an index, want its own", n)
	}
	child, config, layer := img.Images[0].Manifest, img.Images[0].Config, img.Images[0].Layer
	for _, o := range []upstreamtest.Object{child, config, layer} {
		kind := "blobs/"
		if o.Digest() == child.Digest() {
			kind = "manifests/"
		}
		if a := s.get("tools/library/app/" + kind + o.Digest().String()); !bytes.Equal(a.body, o.Data) {
			t.Errorf("%s differs from the upstream's", o.MediaType)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+child.Digest().String(), "GET /v2/library/app/blobs/"+config.Digest().String(), "GET /v2/library/app/blobs/"+layer.Digest().String())
	if n := net.records.written(); n != 1 {
		t.Errorf("%d records for a manifest of one layer, want its own", n)
	}
	// A new server has them, too.
	other := net.start()
	for _, path := range []string{"blobs/" + layer.Digest().String(), "blobs/" + config.Digest().String(), "manifests/" + child.Digest().String(), "manifests/" + root} {
		if a := other.do("HEAD", "tools/library/app/"+path); a.status != 200 {
			t.Errorf("%s: status %d", path, a.status)
		}
	}
	net.WantAnyOrder(t)
	if net.records.written() != 0 {
		t.Error("records were written again")
	}

	// Each fetched document counts once, and only if the recipe would have added
	// something.
	untouched := func() (n int) {
		for _, q := range s.seen {
			if q.Untouched {
				n++
			}
		}
		return n
	}
	s.proxy.Close() // and so every request has been observed
	if untouched() != 4 || s.logged("untouched=true") != 4 {
		t.Errorf("%d untouched manifests, %d in the log; want 4, from 3 GETs and 1 GET", untouched(), s.logged("untouched=true"))
	}
}

// TestNamedPinnedArtifact: artifacts that are no images are passed on as well.
func TestNamedPinnedArtifact(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	for name, test := range map[string]struct{ header, body, want string }{
		"chart":         {"application/vnd.oci.image.manifest.v1+json", `{"schemaVersion":2,"config":{"mediaType":"application/vnd.cncf.helm.config.v1+json","digest":"` + digest.FromString("c").String() + `","size":1},"layers":[]}`, ocispec.MediaTypeImageManifest},
		"type in body":  {"text/plain", `{"mediaType":"application/vnd.docker.distribution.manifest.v2+json","layers":[]}`, "application/vnd.docker.distribution.manifest.v2+json"},
		"page":          {"text/html", `{"mediaType":"text/html","layers":[]}`, ocispec.MediaTypeImageManifest},
		"index by form": {"text/plain", `{"manifests":[]}`, ocispec.MediaTypeImageIndex},
	} {
		o := net.PutManifest("library/app", upstreamtest.Object{MediaType: test.header, Data: []byte(test.body)})
		if a := s.get(toolsApp + o.Digest().String()); string(a.body) != test.body || a.header.Get("Content-Type") != test.want {
			t.Errorf("%s: %q, %s", name, a.header.Get("Content-Type"), a.body)
		}
	}
}

// TestNamedHostile: hostile manifests neither stop the server nor fill its disk.
func TestNamedHostile(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	config := net.PutBlob("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageConfig, Data: []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":["x"]}}`)})
	good := string(encode(t, config.Descriptor()))
	var many []string
	for i := range maxAdvertised {
		many = append(many, `{"digest":"`+digest.FromString(fmt.Sprint(i)).String()+`","size":1}`)
	}
	for name, text := range map[string]string{
		"no digest":     `"config":` + good + `,"layers":[{"size":1}]`,
		"no algorithm":  `"config":` + good + `,"layers":[{"digest":"abc","size":1}]`,
		"a path":        `"config":` + good + `,"layers":[{"digest":"sha256:../../x","size":1}]`,
		"config":        `"config":{"digest":"x","size":1},"layers":[]`,
		"many":          `"config":` + good + `,"layers":[` + strings.Join(many, ",") + `]`,
		"not an object": `"config":7`,
	} {
		o := net.PutManifest("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(`{"schemaVersion":2,` + text + `}`)}, "1")
		for _, ref := range []string{"1", o.Digest().String()} {
			if a := s.do("GET", toolsApp+ref); a.status != 400 {
				t.Errorf("%s: %.10s: status %d, %s", name, ref, a.status, a.body)
			}
		}
		net.advance(maxPause)
	}
	if n := net.records.written(); n != 0 {
		t.Errorf("%d records", n)
	}
}

// TestNamedUnknownDigests: an unknown blob costs one look for a record, an unknown
// manifest one upstream request. Both count as a pull.
func TestNamedUnknownDigests(t *testing.T) {
	net := newNetwork(t)
	s := net.start(limited(5))
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	s.get(toolsApp + "1")
	net.TakeRequests()
	net.records.written()
	unknown := func(i int) string { return digest.FromString(fmt.Sprint("unknown", i)).String() }
	blobs := net.start(limited(5))
	for i := range 50 {
		status, code := 404, "BLOB_UNKNOWN"
		if i >= 5 {
			status, code = 429, "TOOMANYREQUESTS"
		}
		for range 2 {
			if a := blobs.do("GET", "tools/library/app/blobs/"+unknown(i)); a.status != status || !strings.Contains(string(a.body), code) {
				t.Fatalf("blob %d: status %d, %s", i, a.status, a.body)
			}
		}
	}
	net.WantAnyOrder(t)
	var want []string
	for i := range 20 {
		status := 404
		if i >= 4 { // the tag was the first pull
			status = 429
		} else {
			want = append(want, "GET "+appManifests+unknown(i))
		}
		for range 3 {
			if a := s.do("GET", toolsApp+unknown(i)); a.status != status {
				t.Fatalf("digest %d: status %d, %s; want %d", i, a.status, a.body, status)
			}
		}
	}
	net.WantAnyOrder(t, want...)
	for i := range 10 {
		if a := s.do("GET", fmt.Sprintf("%snever%d", toolsApp, i)); a.status != 429 {
			t.Errorf("tag %d: status %d", i, a.status)
		}
	}
	net.WantAnyOrder(t)
	if n := net.records.written(); n != 0 {
		t.Errorf("%d records, want none", n)
	}
	// A client over its limit can finish a pull that it has begun.
	if a := s.do("GET", "tools/library/app/blobs/"+net.layer.Digest.String()); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
	if a := s.do("GET", toolsApp+digest.SHA384.FromString("x").String()); a.status != 429 {
		t.Errorf("sha384: status %d", a.status)
	}
	if a := net.start().do("GET", toolsApp+digest.SHA384.FromString("x").String()); a.status != 404 {
		t.Errorf("sha384: status %d, %s", a.status, a.body)
	}
}

// TestNamedPinnedMeanwhile: a digest that another server advertises while the
// upstream is asked for it is served.
func TestNamedPinnedMeanwhile(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	image := net.start().get(toolsApp + "1")
	records, err := filepath.Glob(filepath.Join(recordsOf(t, net), "*", "images", "sha256-"+image.digest().Encoded()+".record"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	hidden := filepath.Join(t.TempDir(), "record")
	if err := os.Rename(records[0], hidden); err != nil {
		t.Fatal(err)
	}
	net.Answer(func(rw http.ResponseWriter, r *http.Request) {
		if err := os.Rename(hidden, records[0]); err != nil {
			t.Error(err)
		}
		http.NotFound(rw, r)
	})
	if a := net.start().do("GET", toolsApp+image.digest().String()); a.status != 200 || !bytes.Equal(a.body, image.body) {
		t.Errorf("status %d, %s", a.status, a.body)
	}
}

// TestNamedGroups: a digest is served only for the recipe, repository and identity
// for which it was advertised.
func TestNamedGroups(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	recipe, _ := net.Recipe("tools")
	net.setRecipe("others", assemble.NamedRecipe{Recipe: recipe.Recipe, Identity: "recipe:others"})
	digests := pull(t, "tools/library/app", "1", s)
	login := func(identity string) {
		net.setRecipe("tools", assemble.NamedRecipe{Recipe: recipe.Recipe, Identity: identity})
	}
	refused := func(repository string) {
		t.Helper()
		net.Answer(upstreamtest.Status(404))
		defer net.Answer(nil)
		for _, d := range digests {
			for _, kind := range []string{"manifests", "blobs"} {
				if a := s.do("GET", fmt.Sprintf("%s/%s/%s", repository, kind, d)); a.status != 404 {
					t.Errorf("%s/%s/%s: status %d", repository, kind, d, a.status)
				}
			}
		}
	}
	refused("others/library/app")
	refused("tools/library/other")
	refused("tools/quay.io/library/app")
	login("recipe:tools again")
	refused("tools/library/app")
	login("recipe:tools")
	pull(t, "tools/library/app", digests[0].String(), s)
}

// TestNamedZero: a recipe that adds nothing serves the upstream's image, and neither
// counts it as untouched nor has provenance for it.
func TestNamedZero(t *testing.T) {
	net := newNetwork(t)
	net.setRecipe("plain", assemble.NamedRecipe{Recipe: augment.Recipe{}, Identity: "recipe:plain"})
	s := net.start()
	img := net.PushIndex(t, "library/app", "1", "one", "amd64")
	if a := s.get("plain/library/app/manifests/1"); !bytes.Equal(a.body, img.Index.Data) {
		t.Errorf("got %s", a.body)
	}
	pull(t, "plain/library/app", "1", s, net.start())
	s.proxy.Close()
	if s.logged("untouched=true") != 0 {
		t.Error("an image to which nothing was to be added is counted as untouched")
	}
	if a := net.start().do("GET", "plain/library/app/referrers/"+img.Index.Digest().String()); a.status != http.StatusOK || strings.Contains(string(a.body), inTotoType) {
		t.Errorf("referrers %s", a.body)
	}
}

// TestNamedTogether: while tags move, time passes and servers are replaced, no
// pull that goes from server to server misses anything.
func TestNamedTogether(t *testing.T) {
	net := newNetwork(t)
	const tags = 3
	for i := range tags {
		net.PushIndex(t, "library/app", fmt.Sprint("t", i), fmt.Sprint("first", i), "amd64", "arm64")
	}
	servers := []*replica{net.start(), net.start(), net.start()}
	var pulls sync.WaitGroup
	for i := range 12 {
		pulls.Go(func() {
			for round := range 10 {
				mine := slices.Concat(servers[(i+round)%3:], servers[:(i+round)%3])
				switch round {
				case 3:
					net.advance(tagTTL)
				case 5:
					net.PushIndex(t, "library/app", fmt.Sprint("t", i%tags), fmt.Sprint("second", i), "amd64", "arm64")
					net.advance(tagTTL)
				case 7: // one that has just been started
					mine[0] = net.start()
				}
				pull(t, "tools/library/app", fmt.Sprint("t", i%tags), mine...)
			}
		})
	}
	pulls.Wait()
}
