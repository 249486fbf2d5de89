package recipes

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/containerconfig"
)

// tarNames lists the files of a compressed archive.
func tarNames(t *testing.T, r io.Reader) string {
	t.Helper()
	z, err := gzip.NewReader(r)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return strings.Join(names, ",")
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Typeflag != tar.TypeDir {
			names = append(names, h.Name)
		}
	}
}

func TestFusion(t *testing.T) {
	s := newSite(t)
	h := newFixture(t, s)
	dir := t.TempDir()
	writeFile(t, dir+"/scripts/wrap", nil)
	tools := s.layer(t, "/tools.tar.gz", "opt/tools")
	definitions := map[string]Definition{"fusion": {
		Documents: []string{s.fusion(t)},
		Layers: []Layer{
			{Path: dir + "/scripts", Target: "/opt/scripts"},
			{Path: writeFile(t, dir+"/agent.tar.gz", archive(t, "agent")), Platform: "linux/amd64"},
			{URL: tools.Location, Digest: digest.Digest(tools.GzipDigest), Platform: "linux/arm64"},
		},
		Env: []string{"FUSION_LOG_LEVEL=info"}, WorkingDir: "/work", Credentials: []string{"ci"}, Plain: true,
	}}
	r := h.recipe(t, h.load(t, definitions), "fusion")
	want := []string{
		"linux/amd64 usr/bin/fusion.amd64", "linux/arm64 usr/bin/fusion.arm64",
		" opt/scripts/wrap", "linux/amd64 agent", "linux/arm64 opt/tools",
	}
	if diff := cmp.Diff(want, h.summary(t, r)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"/usr/bin/fusion"}, r.Entrypoint); diff != "" || r.WorkingDir != "/work" || !r.Plain || r.Identity != "recipe:fusion" {
		t.Errorf("recipe %+v", r)
	}
	first := s.counts()
	again := h.recipe(t, h.load(t, definitions), "fusion")
	if !again.Recipe.Equal(r.Recipe) {
		t.Errorf("loaded again, it is\n%+v, was\n%+v", again, r)
	}
	documents := map[string]int{"/v2.6-amd64.json": 1, "/v2.6-arm64.json": 1}
	if diff := cmp.Diff(documents, s.counts()); diff != "" {
		t.Errorf("layers are fetched once (-want +got):\n%s", diff)
	}
	if len(first) != 5 {
		t.Errorf("first %v, want 2 documents and 3 layers", first)
	}
	definitions["fusion"].Layers[0].Target = "/elsewhere"
	if moved := h.recipe(t, h.load(t, definitions), "fusion"); moved.Recipe.Equal(r.Recipe) {
		t.Error("another target makes the same recipe")
	}
}

// TestOffline: a recipe outlives the site that its documents came from.
func TestOffline(t *testing.T) {
	s := newSite(t)
	h := newFixture(t, s)
	definitions := map[string]Definition{"fusion": {Documents: []string{s.fusion(t)}}}
	r := h.recipe(t, h.load(t, definitions), "fusion")
	s.put("/v2.6-amd64.json", nil)
	fresh := newFixture(t, s)
	if _, err := fresh.Load(t.Context(), definitions); err == nil || !strings.Contains(err.Error(), "recipes.fusion.container_config_url: ") {
		t.Errorf("without anything kept: %v", err)
	}
	for _, step := range []struct {
		name  string
		spoil func()
		warns int
	}{
		{"gone", func() {}, 1},
		{"a login page", func() { s.put("/v2.6-amd64.json", []byte("<html>")) }, 1},
		{"too large", func() { s.put("/v2.6-amd64.json", make([]byte, containerconfig.MaxDocument+1)) }, 1},
		{"down", s.Close, 2},
	} {
		t.Run(step.name, func(t *testing.T) {
			h.log.Reset()
			step.spoil()
			if again := h.recipe(t, h.load(t, definitions), "fusion"); !again.Recipe.Equal(r.Recipe) {
				t.Errorf("the recipe is %+v, was %+v", again, r)
			}
			if got := h.log.String(); strings.Count(got, "using the stored copy") != step.warns || !strings.Contains(got, "v2.6-amd64.json") {
				t.Errorf("log: %s", got)
			}
		})
	}
}

// TestKeepsTheGood: a document with a missing layer does not replace the stored
// copy that a server can start with.
func TestKeepsTheGood(t *testing.T) {
	s := newSite(t)
	h := newFixture(t, s)
	definitions := map[string]Definition{"fusion": {Documents: []string{s.fusion(t)}}}
	r := h.recipe(t, h.load(t, definitions), "fusion")
	broken := containerconfig.Config{Entrypoint: []string{"/usr/bin/fusion"}, Layers: []containerconfig.Layer{{Location: s.URL + "/absent", GzipDigest: digest.FromString("").String()}}}
	s.put("/v2.6-amd64.json", encode(t, broken))
	if _, err := h.Load(t.Context(), definitions); err == nil {
		t.Fatal("a layer that is absent is taken in")
	}
	s.put("/v2.6-amd64.json", nil)
	if again := h.recipe(t, h.load(t, definitions), "fusion"); !again.Recipe.Equal(r.Recipe) {
		t.Errorf("the recipe is %+v, was %+v", again, r)
	}
}

func TestFileDocument(t *testing.T) {
	h := newFixture(t, newSite(t))
	dir := t.TempDir()
	for _, arch := range containerconfig.Architectures {
		data := archive(t, "bin-"+arch)
		entry := describe(t, data)
		entry.Location = "file:layers/" + arch + ".tar.gz"
		writeFile(t, filepath.Join(dir, "layers", arch+".tar.gz"), data)
		inline := archive(t, "inline")
		other := describe(t, inline)
		other.Location = "data:" + base64.StdEncoding.EncodeToString(inline)
		config := containerconfig.Config{Env: []string{"A=1"}, Layers: []containerconfig.Layer{entry, other}}
		writeFile(t, filepath.Join(dir, arch+".json"), encode(t, config))
	}
	b := h.load(t, map[string]Definition{"a": {
		Documents: []string{"file:" + dir + "/{arch}.json"}, Env: []string{"A=2"}, Entrypoint: []string{"/e"}, Cmd: []string{"c"},
	}})
	r := h.recipe(t, b, "a")
	want := []string{"linux/amd64 bin-amd64", "linux/amd64 inline", "linux/arm64 bin-arm64", "linux/arm64 inline"}
	if diff := cmp.Diff(want, h.summary(t, r)); diff != "" {
		t.Errorf("layers (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A=1", "A=2"}, r.Env); diff != "" {
		t.Errorf("the recipe's own env comes last: %s", diff)
	}
}

func TestRefuses(t *testing.T) {
	s := newSite(t)
	h := newFixture(t, s)
	dir := t.TempDir()
	layer := s.layer(t, "/l.tar.gz", "file")
	document := func(name string, c containerconfig.Config) string {
		s.put(name, encode(t, c))
		return s.URL + name
	}
	with := func(name string, change func(*containerconfig.Layer)) Definition {
		l := layer
		change(&l)
		return Definition{Documents: []string{document(name, containerconfig.Config{Layers: []containerconfig.Layer{l}})}}
	}
	if err := os.Mkdir(dir+"/large", 0o755); err != nil {
		t.Fatal(err)
	}
	large := make([]byte, 2*testMaxLayer) // that does not compress
	for i, x := 0, uint32(1); i < len(large); i++ {
		x = x*1664525 + 1013904223
		large[i] = byte(x >> 24)
	}
	writeFile(t, dir+"/large/file", large)
	s.put("/empty.json", []byte(`{"layers":null,"env":[]}`))
	s.put("/page.json", []byte("<html>"))
	const pinned = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	tests := map[string]struct {
		definition Definition
		want       []string // a part of each line
	}{
		"absent": {Definition{Documents: []string{s.URL + "/absent.json?secret=1"}}, []string{
			"recipes.r.container_config_url: fetch " + s.URL + "/absent.json: ",
		}},
		"forbidden address": {Definition{Documents: []string{"http://127.0.0.1:1/x.json"}}, []string{"recipes.r.container_config_url: fetch http://127.0.0.1:1/x.json: "}},
		"both absent":       {Definition{Documents: []string{s.URL + "/{arch}.json"}}, []string{"/amd64.json: ", "/arm64.json: "}},
		"empty":             {Definition{Documents: []string{s.URL + "/empty.json"}}, []string{"empty.json is not a container config: it adds nothing"}},
		"a page":            {Definition{Documents: []string{s.URL + "/page.json"}}, []string{"page.json is not a container config: invalid character"}},
		"no file":           {Definition{Documents: []string{"file:" + dir + "/absent.json"}}, []string{"recipes.r.container_config_url: open " + dir + "/absent.json"}},
		"not pinned":        {with("/a.json", func(l *containerconfig.Layer) { l.GzipDigest = "" }), []string{"a.json: layers[0]: has no gzipDigest"}},
		"another digest":    {with("/b.json", func(l *containerconfig.Layer) { l.GzipDigest = pinned }), []string{"b.json: layers[0]: layer gzipDigest: expected " + pinned + ", found " + layer.GzipDigest}},
		"another size":      {with("/c.json", func(l *containerconfig.Layer) { l.GzipSize++ }), []string{"c.json: layers[0]: layer gzipSize: expected"}},
		"another diff ID":   {with("/d.json", func(l *containerconfig.Layer) { l.TarDigest = pinned }), []string{"d.json: layers[0]: layer tarDigest: expected"}},
		"no digest":         {with("/e.json", func(l *containerconfig.Layer) { l.GzipDigest = "md5:1" }), []string{`e.json: layers[0]: layer.gzipDigest "md5:1": want sha256:`}},
		"a file from a URL": {with("/f.json", func(l *containerconfig.Layer) { l.Location = "file:/etc/passwd" }), []string{"f.json: layers[0]: location names a file, which only"}},
		"a scheme":          {with("/g.json", func(l *containerconfig.Layer) { l.Location = "ftp://host" }), []string{`g.json: layers[0]: location "ftp://host": want data:`}},
		"all of them": {Definition{
			Documents: []string{s.URL + "/absent.json"},
			Layers: []Layer{
				{Path: dir + "/absent"}, {Path: dir + "/large"}, {URL: s.URL + "/l.tar.gz", Digest: pinned},
				{Path: writeFile(t, dir+"/text", []byte("text"))}, {Path: dir + "/text", Target: "/opt"},
			},
			Env: []string{"A"},
		}, []string{
			"recipes.r.container_config_url: ",
			"recipes.r.layers[0]: stat " + dir + "/absent",
			"recipes.r.layers[1]: " + dir + "/large: layer " + dir + "/large is larger than the limit of 1048576 bytes (layers.max_size)",
			"recipes.r.layers[2]: layer gzipDigest: expected " + pinned,
			"recipes.r.layers[3]: " + dir + "/text: ",
			"recipes.r.layers[4]: " + dir + "/text is not a directory",
			`recipes.r: env[0]: want KEY=VALUE`,
		}},
		"long": {Definition{Env: []string{"A=" + strings.Repeat("x", maxText)}}, []string{"recipes.r: 131075 bytes of environment"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := h.Load(t.Context(), map[string]Definition{"r": test.definition, "good": {Env: []string{"A=1"}}})
			checkLines(t, err, test.want)
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error has a query: %v", err)
			}
		})
	}
	_, err := h.Load(t.Context(), map[string]Definition{"b": {Env: []string{"B"}}, "a": {Env: []string{"A"}}, "c": {Env: []string{"C=1"}}})
	checkLines(t, err, []string{"recipes.a: env", "recipes.b: env"})
}

func checkLines(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("%d problems, want %d:\n%v", len(lines), len(want), err)
	}
	for i, line := range lines {
		if !strings.Contains(line, want[i]) {
			t.Errorf("problem %q, want %q", line, want[i])
		}
	}
}

func TestBind(t *testing.T) {
	s := newSite(t)
	h := newFixture(t, s)
	s.fusion(t)
	s.put("/v2.6-arm64.json", s.files["/v2.6-amd64.json"])
	_, err := h.Load(t.Context(), map[string]Definition{
		"r": {Documents: []string{s.URL + "/v2.6-{arch}.json"}},
		"s": {Documents: []string{s.URL + "/v2.6-amd64.json"}},
	})
	checkLines(t, err, []string{"v2.6-arm64.json: layers[0]: is for linux/amd64 by its name, and the document for linux/arm64"})
}

// imageLayers records the identity that asks for layers of images.
type imageLayers struct {
	Layers
	asked []string
}

func (l *imageLayers) Image(_ context.Context, identity, location string, want assemble.Expected) (augment.Layer, error) {
	l.asked = append(l.asked, identity, location)
	return augment.Layer{Digest: want.Digest}, nil
}

// TestAnonymous: layers that a document names are read without credentials.
func TestAnonymous(t *testing.T) {
	s := newSite(t)
	h := newFixture(t, s)
	layers := &imageLayers{Layers: h.Layers}
	h.Loader.Layers = layers
	const location = "docker://quay.io/v2/team/private/blobs/sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	s.put("/a.json", encode(t, containerconfig.Config{Layers: []containerconfig.Layer{{Location: location}}}))
	b := h.load(t, map[string]Definition{"a": {Documents: []string{s.URL + "/a.json"}, Credentials: []string{"team"}}})
	if diff := cmp.Diff([]string{auth.RecipeIdentity(""), location}, layers.asked); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if b.Credentials(layers.asked[0]) != nil {
		t.Error("the layer was asked for with credentials")
	}
}

// TestCanceled: packing ends with the loading.
func TestCanceled(t *testing.T) {
	h := newFixture(t, newSite(t))
	dir := t.TempDir()
	writeFile(t, dir+"/file", nil)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := h.Load(ctx, map[string]Definition{"a": {Layers: []Layer{{Path: dir}}}})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestPacksTheSame: a recipe changes only with the files of its directory.
func TestPacksTheSame(t *testing.T) {
	h := newFixture(t, newSite(t))
	dir := t.TempDir()
	definitions := map[string]Definition{"a": {Layers: []Layer{{Path: dir}}}}
	name := writeFile(t, dir+"/file", []byte("1"))
	first := h.recipe(t, h.load(t, definitions), "a")
	if err := os.Chtimes(name, time.Unix(1, 0), time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if again := h.recipe(t, h.load(t, definitions), "a"); !again.Recipe.Equal(first.Recipe) {
		t.Error("another time makes another recipe")
	}
	writeFile(t, name, []byte("2"))
	if again := h.recipe(t, h.load(t, definitions), "a"); again.Recipe.Equal(first.Recipe) {
		t.Error("another content makes the same recipe")
	}
}

// TestOwnModes: a layer says whether directories of the image keep their attributes.
func TestOwnModes(t *testing.T) {
	h := newFixture(t, newSite(t))
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "x"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	r := h.recipe(t, h.load(t, map[string]Definition{"a": {Layers: []Layer{{Path: dir, Target: "/a"}, {Path: dir, Target: "/b", OwnModes: true}}}}), "a")
	if r.Layers[0].OwnModes || !r.Layers[1].OwnModes {
		t.Errorf("%+v", r.Layers)
	}
}
