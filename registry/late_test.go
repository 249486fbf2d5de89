package registry

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestLate: the manifests of an index to which nothing was added are read when they,
// or blobs that may be theirs, are asked for, and only once.
func TestLate(t *testing.T) {
	net := newNetwork(t)
	pushed := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	amd64, arm64 := pushed.Images[0], pushed.Images[1]
	repo := net.client.Repository(auth.Target{Registry: "docker.io", Repository: "library/app"})
	l := newLate()
	for _, o := range []upstreamtest.Object{amd64.Manifest, arm64.Manifest} {
		l.addEntry(o.Descriptor())
	}
	if _, ok, err := l.manifest(t.Context(), net.store, repo, digest.FromString("unknown")); ok || err != nil {
		t.Errorf("a digest that is not in the index: %v, %v", ok, err)
	}
	net.WantAnyOrder(t)
	net.Answer(upstreamtest.Status(http.StatusServiceUnavailable))
	if _, ok, err := l.manifest(t.Context(), net.store, repo, amd64.Manifest.Digest()); ok || err == nil {
		t.Errorf("a manifest that the upstream cannot give: %v, %v", ok, err)
	}
	net.Answer(nil)
	net.TakeRequests()
	for range 2 {
		desc, ok, err := l.manifest(t.Context(), net.store, repo, amd64.Manifest.Digest())
		if err != nil || !ok || desc.Size != int64(len(amd64.Manifest.Data)) {
			t.Errorf("got %+v, %v, %v", desc, ok, err)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+amd64.Manifest.Digest().String())
	if f, err := net.store.Open(t.Context(), amd64.Manifest.Digest()); err != nil {
		t.Errorf("the manifest is not in the store: %v", err)
	} else {
		f.Close()
	}
	if _, ok := l.blob(arm64.Layer.Digest()); ok {
		t.Error("a blob of a manifest that was not read is known")
	}
	for range 2 {
		if err := l.readFor(t.Context(), net.store, repo, arm64.Layer.Digest()); err != nil {
			t.Error(err)
		}
	}
	for _, o := range []upstreamtest.Object{amd64.Layer, amd64.Config, arm64.Layer, arm64.Config} {
		if desc, ok := l.blob(o.Digest()); !ok || desc.Size != int64(len(o.Data)) {
			t.Errorf("blob %s: %+v, %v", o.MediaType, desc, ok)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+arm64.Manifest.Digest().String())
}

// TestLateBound: an unknown digest does not make an index of many entries be read.
func TestLateBound(t *testing.T) {
	net := newNetwork(t)
	o := net.PushIndex(t, "library/app", "1", "one", "amd64").Images[0].Manifest
	l := newLate()
	for i := range maxUnread + 1 {
		desc := o.Descriptor()
		desc.Digest = digest.FromString(string(rune('a' + i)))
		l.addEntry(desc)
	}
	repo := net.client.Repository(auth.Target{Registry: "docker.io", Repository: "library/app"})
	if err := l.readFor(t.Context(), net.store, repo, digest.FromString("unknown")); err != nil {
		t.Error(err)
	}
	net.WantAnyOrder(t)
}

// TestLatePartialMirror: entries of an index that the upstream does not have leave the
// blobs of the others alone, and are not asked for again with each blob.
func TestLatePartialMirror(t *testing.T) {
	net, l, repo := lateFixture(t, "")
	good := net.PushIndex(t, "library/app", "1", "one", "amd64").Images[0]
	for i := range 20 {
		desc := good.Manifest.Descriptor()
		desc.Digest = digest.FromString(fmt.Sprint("absent", i))
		l.addEntry(desc)
	}
	l.addEntry(good.Manifest.Descriptor())
	if err := l.readFor(t.Context(), net.store, repo, good.Layer.Digest()); err != nil {
		t.Errorf("a layer of the entry that the mirror has: %v", err)
	}
	if _, ok := l.blob(good.Layer.Digest()); !ok {
		t.Error("the layer is not known")
	}
	net.TakeRequests()
	for range 3 {
		if err := l.readFor(t.Context(), net.store, repo, digest.FromString("unknown")); err != nil {
			t.Error(err)
		}
	}
	net.WantAnyOrder(t)
}

// TestLateTransient: an entry that the upstream cannot give now, or gives with wrong
// bytes, leaves the blobs of the others alone. It is an error of an unknown blob, is not
// asked for again for a moment, and then is.
func TestLateTransient(t *testing.T) {
	net, l, repo := lateFixture(t, "")
	now := time.Now()
	l.now = func() time.Time { return now }
	good := net.PushIndex(t, "library/app", "1", "one", "amd64").Images[0]
	answers := map[string]http.HandlerFunc{
		"down":  upstreamtest.Status(http.StatusServiceUnavailable),
		"wrong": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, `{"schemaVersion":2}`) },
		"gone":  upstreamtest.Status(http.StatusNotFound),
	}
	last := map[string]upstreamtest.Image{}
	for name, answer := range answers {
		for i := range 10 { // maps have no order
			img := net.PushIndex(t, "library/app", name, fmt.Sprint(name, i), "amd64").Images[0]
			net.AnswerAt(appManifests+img.Manifest.Digest().String(), answer)
			l.addEntry(img.Manifest.Descriptor())
			last[name] = img
		}
	}
	l.addEntry(good.Manifest.Descriptor())
	if err := l.readFor(t.Context(), net.store, repo, good.Layer.Digest()); err != nil {
		t.Errorf("a layer of the entry that the upstream has: %v", err)
	}
	net.TakeRequests()
	for range 3 {
		err := l.readFor(t.Context(), net.store, repo, digest.FromString("unknown"))
		if err == nil || isFinal(err) {
			t.Errorf("an unknown blob while entries are not readable: %v", err)
		}
	}
	net.WantAnyOrder(t)

	for name := range last {
		net.AnswerAt(appManifests+last[name].Manifest.Digest().String(), nil)
	}
	now = now.Add(minPause)
	for name, img := range last {
		if err := l.readFor(t.Context(), net.store, repo, img.Layer.Digest()); (err == nil) != (name != "gone") {
			t.Errorf("%s, after a pause: %v", name, err)
		}
	}
	now = now.Add(unreadRest)
	if err := l.readFor(t.Context(), net.store, repo, last["gone"].Layer.Digest()); err != nil {
		t.Errorf("gone, after a minute: %v", err)
	}
	cost := int64(0)
	for _, r := range l.rests {
		cost += r.cost()
	}
	if len(l.rests) != 27 || cost > l.size() {
		t.Errorf("%d entries rest, which cost %d bytes of %d", len(l.rests), cost, l.size())
	}
}

// TestLateSilence: an upstream that answers nothing does not keep a request for the
// time of every entry.
func TestLateSilence(t *testing.T) {
	net, l, repo := lateFixture(t, "")
	now := time.Now()
	l.now = func() time.Time { now = now.Add(5 * time.Second); return now }
	net.Answer(upstreamtest.Status(http.StatusServiceUnavailable))
	for i := range 60 {
		o := upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(manifestOf(1, func(int) string { return fmt.Sprintf(`,"x":%d`, i) }))}
		l.addEntry(net.PutManifest("library/app", o).Descriptor())
	}
	if err := l.readFor(t.Context(), net.store, repo, digest.FromString("unknown")); err == nil {
		t.Error("no error")
	}
	if n := len(l.rests); n == 0 || n > 6 {
		t.Errorf("%d entries were tried in %s", n, lateWait)
	}
}

// lateFixture is an index of manifests for several platforms, of which late has all
// entries.
func lateFixture(t *testing.T, platforms string, entries ...upstreamtest.Object) (net *network, l *late, repo augment.Documents) {
	t.Helper()
	net = newNetwork(t)
	l = newLate()
	var err error
	if l.only, err = augment.ParsePlatforms(platforms); err != nil {
		t.Fatal(err)
	}
	for _, o := range entries {
		l.addEntry(net.PutManifest("library/app", o).Descriptor())
	}
	return net, l, net.client.Repository(auth.Target{Registry: "docker.io", Repository: "library/app"})
}

func wantRefusal(t *testing.T, err error, status int) {
	t.Helper()
	if err == nil || front.ProblemOf(err).Status != status {
		t.Errorf("%v, want a refusal with status %d", err, status)
	}
}

// TestLatePlatforms: where a grant is for some platforms, no digest leads to another,
// neither by what the index says nor by what the image is.
func TestLatePlatforms(t *testing.T) {
	net, l, repo := lateFixture(t, "linux/amd64")
	img := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	amd64, arm64 := img.Images[0], img.Images[1]
	entry := func(o upstreamtest.Object, p *ocispec.Platform) {
		desc := o.Descriptor()
		desc.Platform = p
		l.addEntry(desc)
	}
	for name, p := range map[string]*ocispec.Platform{
		"declared": {OS: "linux", Architecture: "arm64"}, "undeclared": nil,
		"unknown": {OS: "unknown", Architecture: "unknown"}, "declared wrongly": {OS: "linux", Architecture: "amd64"},
	} {
		delete(l.unread, arm64.Manifest.Digest())
		entry(arm64.Manifest, p)
		for range 2 {
			_, ok, err := l.manifest(t.Context(), net.store, repo, arm64.Manifest.Digest())
			if wantRefusal(t, err, http.StatusForbidden); ok {
				t.Errorf("%s: the manifest is served", name)
			}
		}
		if err := l.readFor(t.Context(), net.store, repo, arm64.Layer.Digest()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if _, ok := l.blob(arm64.Layer.Digest()); ok {
			t.Errorf("%s: a layer is served", name)
		}
		if n := len(net.TakeRequests()); name == "declared" && n > 0 || n > 2 {
			t.Errorf("%s: %d requests", name, n)
		}
	}
	entry(amd64.Manifest, nil)
	if _, ok, err := l.manifest(t.Context(), net.store, repo, amd64.Manifest.Digest()); !ok || err != nil {
		t.Errorf("the grant's platform: %v, %v", ok, err)
	}
	artifact := net.PutManifest("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(`{"schemaVersion":2,"layers":[]}`)})
	entry(artifact, &ocispec.Platform{OS: "unknown", Architecture: "unknown"})
	if _, ok, err := l.manifest(t.Context(), net.store, repo, artifact.Digest()); !ok || err != nil {
		t.Errorf("an artifact: %v, %v", ok, err)
	}
}

// TestLateMemory: what late manifests name is bounded, counted, and told to the
// cache. One that is too much is refused, and not read twice.
func TestLateMemory(t *testing.T) {
	var entries []upstreamtest.Object
	for i := range 10 {
		entries = append(entries, upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(manifestOf(1000+i, func(int) string {
			return `,"annotations":{"a":"` + strings.Repeat("x", 900) + `"}`
		}))})
	}
	net, l, repo := lateFixture(t, "", entries...)
	told := int64(0)
	l.grew = func() { told = l.size() }
	served, refused := 0, 0
	least := int64(math.MaxInt64) // other goroutines of the process allocate, too
	const rounds = 5
	for range rounds {
		before := heap()
		for _, o := range entries {
			_, ok, err := l.manifest(t.Context(), net.store, repo, o.Digest())
			if ok {
				served++
				continue
			}
			wantRefusal(t, err, http.StatusBadRequest)
			refused++
		}
		if told != l.size() || told > 2<<20 {
			t.Errorf("told of %d bytes, %d are used", told, l.size())
		}
		if served == 4 {
			continue // the first round
		}
		least = min(least, int64(heap())-int64(before))
	}
	if least > 1<<20 {
		t.Errorf("each round after the first takes %d bytes more", least)
	}
	if served != 4*rounds || refused != 6*rounds {
		t.Errorf("%d are served and %d refused, want %d and %d", served, refused, 4*rounds, 6*rounds)
	}
	if n := len(net.TakeRequests()); n != 10 {
		t.Errorf("%d requests for 10 manifests", n)
	}
	if _, ok := l.blob(digest.FromString("1000 1")); !ok && len(l.blobs) < 4000 {
		t.Errorf("%d blobs are known", len(l.blobs))
	}
}

// TestLatePulls: each manifest that takes an upstream request is a pull of its own;
// once it was read, it belongs to the image's.
func TestLatePulls(t *testing.T) {
	f := newFixture(t)
	var entries []string
	for i := range 4 {
		o := f.upstream.PutManifest("library/base", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(manifestOf(2, func(int) string { return fmt.Sprintf(`,"x":%d`, i) }))})
		entries = append(entries, string(encode(t, o.Descriptor())))
	}
	index := augment.NewObject(ocispec.MediaTypeImageIndex, []byte(`{"manifests":[`+strings.Join(entries, ",")+`]}`))
	if err := f.server.options.Store.Put(t.Context(), index.Digest, bytes.NewReader(index.Data)); err != nil {
		t.Fatal(err)
	}
	f.grant = auth.Grant{Image: "docker.io/library/base", Tag: "1", Root: index.Descriptor(), Objects: []digest.Digest{index.Digest}}
	f.server.options.Pulls = ratelimit.New(ratelimit.Rate{Events: 3, Per: time.Hour})
	refs, err := index.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	get := func(ref string) int {
		resp, _, err := f.do(t, "GET", f.proxy.URL+"/v2/wt/"+string(testToken)+"/library/base/manifests/"+ref)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode
	}
	if status := get("1"); status != 200 {
		t.Fatalf("the index: status %d", status)
	}
	for i, entry := range refs.Manifests {
		want := 200
		if i > 1 {
			want = http.StatusTooManyRequests
		}
		for range 3 {
			if status := get(entry.Digest.String()); status != want {
				t.Errorf("entry %d: status %d, want %d", i, status, want)
			}
		}
	}
}
