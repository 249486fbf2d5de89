package registry

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// referrersOf asks for what is attached to a digest and returns the digests.
func (r *replica) referrersOf(t *testing.T, d, query string) (found []string) {
	t.Helper()
	a := r.do("GET", "tools/library/app/referrers/"+d+query)
	var index ocispec.Index
	if err := json.Unmarshal(a.body, &index); err != nil || a.status != 200 || a.header.Get("Content-Type") != ocispec.MediaTypeImageIndex {
		t.Fatalf("status %d, %s, %v", a.status, a.body, err)
	}
	for _, m := range index.Manifests {
		found = append(found, m.Digest.String())
	}
	return found
}

// TestNamedUpstreamReferrers: what is attached to an image that passes untouched is the
// upstream's, from its API, in pages or not, or from its tag. What is attached to our image
// is ours. The artifacts themselves can be pulled.
func TestNamedUpstreamReferrers(t *testing.T) {
	net := newNetwork(t)
	img := net.PushIndex(t, "library/app", "1", "one", "amd64")
	subject := img.Index.Digest()
	path := "/v2/library/app/referrers/" + subject.String()
	desc := img.Index.Descriptor()
	sbom := net.pushArtifact("application/vnd.oci.empty.v1+json", "text/spdx", "sbom", &desc)
	signature := net.pushArtifact(ocispec.MediaTypeImageConfig, "application/vnd.dev.cosign.simplesigning.v1+json", "signature", &desc)
	entry := func(o upstreamtest.Object, artifactType string) string {
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d,"artifactType":%q,"new":{"x":1}}`, o.MediaType, o.Digest(), len(o.Data), artifactType)
	}
	index := func(entries ...string) []byte {
		return []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageIndex + `","manifests":[` + strings.Join(entries, ",") + `]}`)
	}
	page := func(link, filters string, entries ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", ocispec.MediaTypeImageIndex)
			if link != "" {
				w.Header().Set("Link", link)
			}
			if filters != "" {
				w.Header().Set("OCI-Filters-Applied", filters)
			}
			_, _ = w.Write(index(entries...))
		}
	}
	both := []string{entry(sbom, "text/spdx"), entry(signature, "a/signature")}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		tag    []byte // of the fallback
		query  string
		want   int
	}{
		"API":                    {page("", "", both...), nil, "", 2},
		"API, filtered here":     {page("", "", both...), nil, "?artifactType=text/spdx", 1},
		"API, filtered there":    {page("", "artifactType", both[0]), nil, "?artifactType=a/signature", 1},
		"pages":                  {upstreamtest.InTurn(page(`</v2/library/app/referrers/x?last=1>; rel="next"`, "", both[0]), page("", "", both[1])), nil, "", 2},
		"tag":                    {upstreamtest.Status(404), index(both...), "", 2},
		"tag, filtered":          {upstreamtest.Status(404), index(both...), "?artifactType=a/signature", 1},
		"tag, API not supported": {upstreamtest.Status(405), index(both...), "", 2},
		"tag, API bad request":   {upstreamtest.Status(400), index(both[1]), "", 1},
		"tag, API is a page":     {func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }, index(both...), "", 2},
		"nothing":                {upstreamtest.Status(404), nil, "", 0},
	} {
		net.AnswerAt(path, test.answer)
		tag := upstreamtest.ManifestPath("library/app", subject.Algorithm().String()+"-"+subject.Encoded())
		net.PutFile(tag, test.tag)
		s := net.start()
		net.TakeRequests()
		found := s.referrersOf(t, subject.String(), test.query)
		if len(found) != test.want {
			t.Errorf("%s: %v, want %d", name, found, test.want)
		}
		net.TakeRequests()
		s.referrersOf(t, subject.String(), test.query)
		net.WantAnyOrder(t)
		for _, d := range found {
			pull(t, "tools/library/app", d, s, net.start())
		}
	}
	net.AnswerAt(path, page("", "", both...))
	s := net.start()
	if a := s.do("GET", "tools/library/app/referrers/"+subject.String()); !strings.Contains(string(a.body), `"new":{"x":1}`) {
		t.Errorf("members of entries are lost: %s", a.body)
	}
	// A failing or refusing registry is no empty list.
	for _, status := range []int{401, 403, 429, 503} {
		net.AnswerAt(path, upstreamtest.Status(status))
		if a := net.start().do("GET", "tools/library/app/referrers/"+subject.String()); a.status == 200 {
			t.Errorf("with %d: %s", status, a.body)
		}
	}
	// Nor is one that never ends.
	net.AnswerAt(path, page(`</x?last=1>; rel=next`, "", both...))
	if a := net.start().do("GET", "tools/library/app/referrers/"+subject.String()); a.status != 502 {
		t.Errorf("endless: status %d, %.200s", a.status, a.body)
	}
	// Ours are ours.
	ours := s.get(toolsApp + "1").digest()
	net.TakeRequests()
	if found := s.referrersOf(t, ours.String(), ""); len(found) != 1 || found[0] == sbom.Digest().String() {
		t.Errorf("of our image: %v", found)
	}
	net.WantAnyOrder(t)
	// Each list is charged.
	net.AnswerAt(path, page("", "", both...))
	net.AnswerAt("/v2/library/app/tags/list", tagsOf("a"))
	few := net.start(limited(2))
	few.do("GET", "tools/library/app/referrers/"+subject.String())
	few.do("GET", "tools/library/app/tags/list")
	if a := few.do("GET", "tools/library/app/tags/list?n=3"); a.status != 429 {
		t.Errorf("a third list: status %d", a.status)
	}
}

// tagsOf answers with a list of tags.
func tagsOf(tags ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		data, _ := json.Marshal(map[string]any{"name": "library/app", "tags": tags})
		_, _ = w.Write(data)
	}
}

// TestNamedTags: the tags under a recipe are the upstream's, in its pages.
func TestNamedTags(t *testing.T) {
	net := newNetwork(t)
	const path = "/v2/library/app/tags/list"
	var asked []string
	paged := func(link string, tags ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			asked = append(asked, r.URL.RawQuery)
			if link != "" {
				w.Header().Set("Link", link)
			}
			tagsOf(tags...)(w, r)
		}
	}
	for name, test := range map[string]struct {
		answer      http.HandlerFunc
		query       string
		asks        string
		body, links string
	}{
		"all":           {paged("", "a", "b"), "", "", `{"name":"wt/tools/library/app","tags":["a","b"]}`, ""},
		"none":          {paged(""), "", "", `"tags":[]`, ""},
		"page":          {paged(`</v2/library/app/tags/list?last=b&n=2>; rel="next"`, "a", "b"), "?n=2", "n=2", `["a","b"]`, `</v2/wt/tools/library/app/tags/list?last=b&n=2>; rel="next"`},
		"absolute link": {paged(`<https://evil.example/v2/x/tags/list?next_page=abc%3D>; rel=next`, "a"), "?n=1&last=0", "last=0&n=1", `["a"]`, `</v2/wt/tools/library/app/tags/list?next_page=abc%3D>; rel="next"`},
		"last page":     {paged(`</v2/library/app/tags/list?last=a>; rel="prev"`, "c"), "?n=2&last=b", "last=b&n=2", `["c"]`, ""},
		"mirror":        {paged(`</v2/library/app/tags/list?last=b>; rel="next"`, "a"), "?ns=docker.io", "", `["a"]`, `</v2/wt/tools/library/app/tags/list?last=b&ns=docker.io>; rel="next"`},
	} {
		net.AnswerAt(path, test.answer)
		asked = nil
		s := net.start()
		for range 3 {
			a := s.do("GET", "tools/library/app/tags/list"+test.query)
			if a.status != 200 || !strings.Contains(string(a.body), test.body) || a.header.Get("Link") != test.links {
				t.Errorf("%s: status %d, %s, Link %q", name, a.status, a.body, a.header.Get("Link"))
			}
		}
		if len(asked) != 1 || asked[0] != test.asks {
			t.Errorf("%s: asked for %q", name, asked)
		}
	}
	for status, want := range map[int]int{404: 404, 403: 403, 429: 429, 503: 502} {
		net.AnswerAt(path, upstreamtest.Status(status))
		if a := net.start().do("GET", "tools/library/app/tags/list"); a.status != want {
			t.Errorf("with %d: status %d, %s", status, a.status, a.body)
		}
	}
	if a := net.start().do("GET", "tools/library/app/tags/list?last="+strings.Repeat("x", maxListQuery)); a.status != 400 {
		t.Errorf("long query: status %d", a.status)
	}
}

// TestNamedPlain: where a recipe lets it, what it is not for passes as it is, under its tag
// and beside images that the recipe is for.
func TestNamedPlain(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	recipe, _ := net.Recipe("tools")
	layer := net.layer
	layer.Platform = "linux/amd64"
	recipe.Layers = append(recipe.Layers[:0:0], layer)
	net.setRecipe("tools", recipe)
	other := net.PushIndex(t, "library/app", "arm", "arm", "arm64")
	mixed := net.PushIndex(t, "library/app", "mixed", "mixed", "amd64", "s390x")
	if a := s.do("GET", toolsApp+"arm"); a.status != 400 {
		t.Errorf("by default: status %d, %s", a.status, a.body)
	}
	without := s.get(toolsApp + "mixed")
	recipe.Plain = true
	net.setRecipe("tools", recipe)
	if a := s.get(toolsApp + "arm"); a.digest() != other.Index.Digest() {
		t.Errorf("an image for another platform became %s", a.body)
	}
	pull(t, "tools/library/app", "arm", s, net.start())
	with := s.get(toolsApp + "mixed")
	plain := mixed.Images[1].Manifest.Digest().String()
	if strings.Contains(string(without.body), plain) || !strings.Contains(string(with.body), plain) || strings.Contains(string(with.body), mixed.Images[0].Manifest.Digest().String()) {
		t.Errorf("without: %s\nwith: %s", without.body, with.body)
	}
	pull(t, "tools/library/app", "mixed", s, net.start())
}
