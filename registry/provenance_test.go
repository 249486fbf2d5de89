package registry

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry"
	"oras.land/oras-go/v2/registry/remote"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// attested returns a grant that has everything that provenance names.
func attested() auth.Grant {
	return auth.Grant{
		Image: "quay.io/biocontainers/samtools", Tag: "1.20",
		Base:     digest.Digest("sha256:" + strings.Repeat("a", 64)),
		Identity: "recipe:fusion", Named: "fusion", Platforms: []string{"linux/amd64"},
		Recipe: augment.Recipe{
			Layers: []augment.Layer{
				{Digest: digest.Digest("sha256:" + strings.Repeat("c", 64)), Size: 42, DiffID: digest.Digest("sha256:" + strings.Repeat("d", 64)), Platform: "linux/amd64", Location: "https://user:pass@fusionfs.example.org/a.tar.gz?signature=secret"},
				{Digest: digest.Digest("sha256:" + strings.Repeat("e", 64)), Size: 42, DiffID: digest.Digest("sha256:" + strings.Repeat("f", 64)), Location: "/srv/private/layer.tar.gz"},
			},
			Env:        []string{"TOKEN=secret", "B=2", "A=1", "A=3"},
			Entrypoint: []string{"/opt/fusion", "--key=secret"},
			WorkingDir: "/secret",
		},
		Builder: auth.Builder{ID: "https://proxy.example.org", Version: "1.2.3"},
	}
}

// TestAttest holds provenance to exact bytes, because its digests were advertised.
func TestAttest(t *testing.T) {
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageIndex, Digest: digest.Digest("sha256:" + strings.Repeat("b", 64)), Size: 1234}
	a := newAttester(attested()).attest(subject)
	x := func(c string) string { return strings.Repeat(c, 64) }
	want := `{"_type":"https://in-toto.io/Statement/v1","subject":[{"name":"quay.io/biocontainers/samtools","digest":{"sha256":"` + x("b") + `"}}],` +
		`"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{"buildType":"https://github.com/waveproxy/waveproxy/augmentation/v1",` +
		`"externalParameters":{"image":"quay.io/biocontainers/samtools:1.20","platforms":["linux/amd64"],"recipe":{"name":"fusion","layers":[` +
		`{"digest":"sha256:` + x("c") + `","diffID":"sha256:` + x("d") + `","location":"https://fusionfs.example.org/a.tar.gz","platform":"linux/amd64"},` +
		`{"digest":"sha256:` + x("e") + `","diffID":"sha256:` + x("f") + `"}],"env":["A","B","TOKEN"],"entrypoint":true,"workingDir":true}},` +
		`"resolvedDependencies":[{"uri":"pkg:oci/samtools@sha256%3A` + x("a") + `?repository_url=quay.io/biocontainers/samtools\u0026tag=1.20","digest":{"sha256":"` + x("a") + `"}},` +
		`{"uri":"https://fusionfs.example.org/a.tar.gz","digest":{"sha256":"` + x("c") + `"}},{"name":"layer","digest":{"sha256":"` + x("e") + `"}}]},` +
		`"runDetails":{"builder":{"id":"https://proxy.example.org","version":{"waveproxy":"1.2.3"}}}}}`
	if diff := cmp.Diff(want, string(a.statement.Data)); diff != "" {
		t.Errorf("statement (-want +got):\n%s", diff)
	}
	const predicate = `"annotations":{"in-toto.io/predicate-type":"https://slsa.dev/provenance/v1"}`
	want = `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","artifactType":"application/vnd.in-toto+json",` +
		`"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":"sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a","size":2},` +
		`"layers":[{"mediaType":"application/vnd.in-toto+json","digest":"` + a.statement.Digest.String() + `","size":` + jsonOf(t, len(a.statement.Data)) + `,` + predicate + `}],` +
		`"subject":{"mediaType":"application/vnd.oci.image.index.v1+json","digest":"sha256:` + x("b") + `","size":1234},` + predicate + `}`
	if diff := cmp.Diff(want, string(a.manifest.Data)); diff != "" {
		t.Errorf("manifest (-want +got):\n%s", diff)
	}
	if again := newAttester(attested()).attest(subject); again.manifest.Digest != a.manifest.Digest {
		t.Error("the same grant has other provenance")
	}
	pinned := attested()
	pinned.Tag = ""
	if s := string(newAttester(pinned).attest(subject).statement.Data); !strings.Contains(s, `"image":"quay.io/biocontainers/samtools@sha256:`+x("a")+`"`) || strings.Contains(s, "tag=") {
		t.Errorf("an image that is named by digest: %s", s)
	}
}

func jsonOf(t *testing.T, v any) string { return string(encode(t, v)) }

// discover returns the provenance of a manifest, read and verified as "oras
// discover" does.
func discover(t *testing.T, host, repository string, subject ocispec.Descriptor) (statement, ocispec.Descriptor) {
	t.Helper()
	repo, err := remote.NewRepository(host + "/" + repository)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	if err := repo.SetReferrersCapability(true); err != nil {
		t.Fatal(err)
	}
	found, err := registry.Referrers(t.Context(), repo, subject, "")
	if err != nil || len(found) != 1 {
		t.Fatalf("%d referrers of %s, %v", len(found), subject.Digest, err)
	}
	if again, err := repo.Predecessors(t.Context(), subject); err != nil || len(again) != 1 || !content.Equal(again[0], found[0]) {
		t.Errorf("predecessors %v, %v", again, err)
	}
	desc := found[0]
	if desc.ArtifactType != "application/vnd.in-toto+json" || desc.Annotations["in-toto.io/predicate-type"] != "https://slsa.dev/provenance/v1" {
		t.Errorf("the list has %+v", desc)
	}
	resolved, err := repo.Resolve(t.Context(), desc.Digest.String()) // HEAD
	if err != nil || resolved.Size != desc.Size || resolved.MediaType != desc.MediaType {
		t.Errorf("resolved %+v, %v", resolved, err)
	}
	read := func(d ocispec.Descriptor) []byte {
		t.Helper()
		data, err := content.FetchAll(t.Context(), repo, d) // verifies
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(read(desc), &manifest); err != nil {
		t.Fatal(err)
	}
	if manifest.Subject == nil || !content.Equal(*manifest.Subject, ocispec.Descriptor{MediaType: subject.MediaType, Digest: subject.Digest, Size: subject.Size}) {
		t.Errorf("the subject is %+v, want %+v", manifest.Subject, subject)
	}
	if config := read(manifest.Config); string(config) != "{}" {
		t.Errorf("the config is %s", config)
	}
	var s statement
	dec := json.NewDecoder(bytes.NewReader(read(manifest.Layers[0])))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&s); err != nil {
		t.Fatal(err)
	}
	if s.Subject[0].Digest["sha256"] != subject.Digest.Encoded() {
		t.Errorf("the statement is about %v", s.Subject)
	}
	return s, desc
}

// TestNamedReferrers: every manifest of an augmented image has provenance, which
// every server finds, also after an upgrade.
func TestNamedReferrers(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	img := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	root := s.get(toolsApp + "1")
	refs, err := augment.Object{Data: root.body}.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	subjects := append(refs.Manifests, ocispec.Descriptor{MediaType: img.Index.MediaType, Digest: root.digest(), Size: int64(len(root.body))})
	net.TakeRequests()
	listed := map[digest.Digest]digest.Digest{}
	for _, subject := range subjects {
		told, desc := discover(t, strings.TrimPrefix(s.proxy.URL, "http://"), "wt/tools/library/app", subject)
		if told.Predicate.BuildDefinition.ExternalParameters.Recipe.Name != "tools" || told.Predicate.RunDetails.Builder.ID != "https://proxy.example.org" ||
			told.Predicate.BuildDefinition.ResolvedDependencies[0].Digest["sha256"] != img.Index.Digest().Encoded() ||
			told.Predicate.BuildDefinition.ResolvedDependencies[1].Digest["sha256"] != net.layer.Digest.Encoded() {
			t.Errorf("the statement is %+v", told)
		}
		if strings.Contains(jsonOf(t, told), "xyzzy") {
			t.Error("the statement has a variable's value")
		}
		listed[subject.Digest] = desc.Digest
	}
	upgraded := net.start(func(o *Options) { o.Resolver.(*assemble.Resolver).Builder.Version = "2.0.0" })
	for _, subject := range subjects {
		// A server that has not listed the provenance serves it.
		if a := net.start().do("GET", "tools/library/app/manifests/"+listed[subject.Digest].String()); a.status != 200 {
			t.Errorf("status %d, %s", a.status, a.body)
		}
		told, desc := discover(t, strings.TrimPrefix(upgraded.proxy.URL, "http://"), "wt/tools/library/app", subject)
		if desc.Digest != listed[subject.Digest] || told.Predicate.RunDetails.Builder.Version["waveproxy"] != "1.2.3" {
			t.Error("an upgrade has changed the provenance")
		}
	}
	net.WantAnyOrder(t)
	for _, path := range []string{digest.FromString("unknown").String(), img.Index.Digest().String(), listed[root.digest()].String(), img.Images[0].Layer.Digest().String()} {
		a := s.do("GET", "tools/library/app/referrers/"+path)
		if a.status != 200 || a.header.Get("Content-Type") != ocispec.MediaTypeImageIndex || !strings.Contains(string(a.body), `"manifests":[]`) {
			t.Errorf("%s: status %d, %v, %s", path, a.status, a.header, a.body)
		}
	}
	// What is attached to the base image, or to what is unknown, is the upstream's.
	var want []string
	for _, d := range []digest.Digest{digest.FromString("unknown"), img.Index.Digest()} {
		want = append(want, "GET /v2/library/app/referrers/"+d.String(), "GET "+appManifests+"sha256-"+d.Encoded())
	}
	net.WantAnyOrder(t, want...)
}

func TestReferrersFilter(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	path := "tools/library/app/referrers/" + s.get(toolsApp+"1").digest().String()
	for query, want := range map[string]struct {
		applied string
		found   int
	}{
		"": {"", 1}, "?artifactType=": {"", 1},
		"?artifactType=application/vnd.in-toto%2Bjson": {"artifactType", 1},
		"?artifactType=application/other":              {"artifactType", 0},
	} {
		a := s.do("GET", path+query)
		var index ocispec.Index
		if err := json.Unmarshal(a.body, &index); err != nil {
			t.Fatal(err)
		}
		if a.header.Get("OCI-Filters-Applied") != want.applied || len(index.Manifests) != want.found {
			t.Errorf("%q: %q and %s", query, a.header.Get("OCI-Filters-Applied"), a.body)
		}
	}
}

// TestTokenReferrers: the image of a token has provenance, which no other token
// gives access to.
func TestTokenReferrers(t *testing.T) {
	f := newFixture(t)
	host := strings.TrimPrefix(f.proxy.URL, "http://")
	repository := "wt/" + string(testToken) + "/library/base"
	list := func() string {
		t.Helper()
		resp, body, err := f.do(t, "GET", f.proxy.URL+"/v2/"+repository+"/referrers/"+f.grant.Root.Digest.String())
		if err != nil || resp.StatusCode != 200 {
			t.Fatal(resp.StatusCode, err)
		}
		return string(body)
	}
	// Grants of older versions do not name a builder.
	if body := list(); !strings.Contains(body, `"manifests":[]`) {
		t.Errorf("an old grant has provenance: %s", body)
	}
	status := func(path string) int {
		t.Helper()
		resp, _, err := f.do(t, "GET", f.proxy.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	empty := ocispec.DescriptorEmptyJSON.Digest.String()
	if got := status("/v2/" + repository + "/blobs/" + empty); got != 404 {
		t.Errorf("an image without provenance has the empty config: status %d", got)
	}

	f.grant.Builder = auth.Builder{ID: "https://proxy.example.org", Version: "1"}
	f.server.tokens.loaded.Purge()
	told, desc := discover(t, host, repository, f.grant.Root)
	if told.Predicate.BuildDefinition.ExternalParameters.Recipe.Name != "" || told.Subject[0].Name != "docker.io/library/base" {
		t.Errorf("the statement is %+v", told)
	}
	resp, body, err := f.do(t, "GET", f.proxy.URL+"/v2/"+repository+"/manifests/"+desc.Digest.String(), "Range", "bytes=0-")
	if err != nil || resp.StatusCode != 200 || digest.FromBytes(body) != desc.Digest || resp.Header.Get("Content-Type") != ocispec.MediaTypeImageManifest {
		t.Errorf("status %d, %v, %v", resp.StatusCode, resp.Header, err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(body, &manifest); err != nil {
		t.Fatal(err)
	}
	text := manifest.Layers[0].Digest.String()
	for path, want := range map[string]int{
		"/manifests/" + text:                  404, // a blob is not a manifest
		"/blobs/" + desc.Digest.String():      404,
		"/blobs/" + text:                      200,
		"/blobs/" + empty:                     200,
		"/manifests/" + f.grant.Base.String(): 403,
	} {
		if got := status("/v2/" + repository + path); got != want {
			t.Errorf("%s: status %d, want %d", path, got, want)
		}
	}
	other := strings.Replace(repository, string(testToken), strings.Repeat("b", auth.TokenLength), 1)
	for _, path := range []string{"/referrers/" + f.grant.Root.Digest.String(), "/manifests/" + desc.Digest.String(), "/blobs/" + text, "/blobs/" + empty} {
		if got := status("/v2/" + other + path); got != 404 {
			t.Errorf("%s by another token: status %d", path, got)
		}
	}
	// The grant of another image.
	f.grant.Recipe.Env = []string{"A=1"}
	f.server.tokens.loaded.Purge()
	if got := status("/v2/" + repository + "/manifests/" + desc.Digest.String()); got != 404 {
		t.Errorf("provenance of another grant: status %d", got)
	}
	if n := len(f.upstream.TakeRequests()); n != 0 {
		t.Errorf("the upstream was asked %d times", n)
	}
}

// TestAttestationsAreDropped: attestations of the base image are not in the index
// of the augmented image, because they are not about it.
func TestAttestationsAreDropped(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	img := net.PushIndex(t, "library/app", "1", "one", "amd64")
	root := s.get(toolsApp + "1")
	refs, err := augment.Object{Data: root.body}.References(t.Context())
	if err != nil || len(refs.Manifests) != 1 || slices.ContainsFunc(refs.Manifests, func(d ocispec.Descriptor) bool { return d.Platform.OS == "unknown" }) {
		t.Errorf("the index is %s, %v", root.body, err)
	}
	var child ocispec.Manifest
	if err := json.Unmarshal(s.get(toolsApp+refs.Manifests[0].Digest.String()).body, &child); err != nil {
		t.Fatal(err)
	}
	want := map[string]string{ocispec.AnnotationBaseImageName: "docker.io/library/app:1", ocispec.AnnotationBaseImageDigest: img.Images[0].Manifest.Digest().String()}
	if diff := cmp.Diff(want, child.Annotations); diff != "" {
		t.Errorf("annotations (-want +got):\n%s", diff)
	}
}
