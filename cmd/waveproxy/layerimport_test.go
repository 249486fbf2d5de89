package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/klauspost/compress/gzip"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/containerconfig"
)

// archiveOf returns a layer with one file, and its description.
func archiveOf(t *testing.T, text string) ([]byte, augment.Layer) {
	t.Helper()
	var b bytes.Buffer
	if err := augment.Pack(&b, fstest.MapFS{"usr/bin/fusion": {Data: []byte(text), Mode: 0o755}}, "/"); err != nil {
		t.Fatal(err)
	}
	found, err := augment.Inspect(t.Context(), bytes.NewReader(b.Bytes()), augment.DefaultLimits)
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), found.Layer
}

// releases is a server of documents and layers, as Fusion's is.
func releases(t *testing.T, change func(arch string, c *containerconfig.Config)) (url string, layers map[string]augment.Layer) {
	t.Helper()
	mux := http.NewServeMux()
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	layers = map[string]augment.Layer{}
	for _, arch := range containerconfig.Architectures {
		archive, layer := archiveOf(t, "fusion for "+arch)
		layers[arch] = layer
		name := "/pkg/2/6/0/fusion-" + arch + ".tar.gz"
		config := containerconfig.Config{Entrypoint: []string{"/usr/bin/fusion"}, Layers: []containerconfig.Layer{{
			Location: server.URL + name, GzipDigest: layer.Digest.String(), GzipSize: containerconfig.Size(layer.Size), TarDigest: layer.DiffID.String(), SkipHashing: true}}}
		if change != nil {
			change(arch, &config)
		}
		text, err := json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		mux.HandleFunc("GET /v2.6-"+arch+".json", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(text) })
		mux.HandleFunc("GET "+name, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(archive) })
	}
	return server.URL, layers
}

func readConfig(t *testing.T, text string) (c containerconfig.Config) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return c
}

// TestLayerImport: imported documents and layers can be imported again from the
// files, without the server.
func TestLayerImport(t *testing.T) {
	url, layers := releases(t, nil)
	first, second := filepath.Join(t.TempDir(), "fusion"), t.TempDir()
	for _, step := range []struct{ source, dir string }{
		{url + "/v2.6-{arch}.json", first},
		{"file:" + first + "/v2.6-{arch}.json", second},
	} {
		printed := command(t, "layer", "import", step.source, "--dir", step.dir)
		if want := "container_config_url: \"file:" + step.dir + "/v2.6-{arch}.json\"\n"; printed != want {
			t.Errorf("printed %q, want %q", printed, want)
		}
		files := treeOf(t, step.dir)
		if len(files) != 4 {
			t.Errorf("%d files, want two documents and two layers", len(files))
		}
		for arch, layer := range layers {
			c := readConfig(t, files["v2.6-"+arch+".json"])
			if len(c.Entrypoint) != 1 || len(c.Layers) != 1 {
				t.Fatalf("%s: %+v", arch, c)
			}
			want := containerconfig.Layer{Location: "file:" + layer.Digest.Encoded() + ".tar.gz", GzipDigest: layer.Digest.String(), GzipSize: containerconfig.Size(layer.Size), TarDigest: layer.DiffID.String()}
			if c.Layers[0] != want {
				t.Errorf("%s: layer %+v, want %+v", arch, c.Layers[0], want)
			}
			if got := digest.FromString(files[layer.Digest.Encoded()+".tar.gz"]); got != layer.Digest {
				t.Errorf("%s: the file has the digest %s", arch, got)
			}
		}
	}
}

// TestLayerImportArchive: an archive of any compression becomes an archive that a
// recipe can name.
func TestLayerImportArchive(t *testing.T) {
	archive, layer := archiveOf(t, "agent")
	z, err := gzip.NewReader(bytes.NewReader(archive))
	if err != nil {
		t.Fatal(err)
	}
	var plain bytes.Buffer
	if _, err := plain.ReadFrom(z); err != nil {
		t.Fatal(err)
	}
	in := t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(in)))
	defer server.Close()
	put(t, filepath.Join(in, "agent.tar.gz"), string(archive))
	for _, source := range []string{
		filepath.Join(in, "agent.tar.gz"),
		put(t, filepath.Join(in, "agent.tar"), plain.String()),
		server.URL + "/agent.tar.gz?token=x",
	} {
		dir := t.TempDir()
		printed := command(t, "layer", "import", source, "--dir", dir)
		for name, text := range treeOf(t, dir) {
			found, err := augment.Inspect(t.Context(), strings.NewReader(text), augment.DefaultLimits)
			if err != nil {
				t.Fatal(err)
			}
			if want := "layers:\n  - path: \"" + filepath.Join(dir, name) + "\"\n"; printed != want {
				t.Errorf("printed %q, want %q", printed, want)
			}
			if found.Compression != augment.Gzip || found.DiffID != layer.DiffID || name != found.Digest.Encoded()+".tar.gz" {
				t.Errorf("%s has become %+v", source, found)
			}
		}
	}
}

func TestLayerImportRefuses(t *testing.T) {
	archive, _ := archiveOf(t, "inline")
	inline := "data:" + base64.StdEncoding.EncodeToString(archive)
	for name, test := range map[string]struct {
		source string // "" for what change makes of Fusion
		change func(arch string, c *containerconfig.Config)
		says   string
	}{
		"digest": {"", func(_ string, c *containerconfig.Config) {
			c.Layers[0].GzipDigest = "sha256:" + strings.Repeat("0", 64)
		}, "expected sha256:0000"},
		"diff ID":      {"", func(_ string, c *containerconfig.Config) { c.Layers[0].TarDigest = "sha256:" + strings.Repeat("0", 64) }, "tarDigest"},
		"size":         {"", func(_ string, c *containerconfig.Config) { c.Layers[0].GzipSize = 7 }, "gzipSize: expected 7"},
		"a file of us": {"", func(_ string, c *containerconfig.Config) { c.Layers[0].Location = "file:/etc/passwd" }, "file"},
		"a blob":       {"", func(_ string, c *containerconfig.Config) { c.Layers[0].Location = "docker://h/v2/a/blobs/sha256:0" }, "want data:"},
		"no base64":    {"", func(_ string, c *containerconfig.Config) { c.Layers[0] = containerconfig.Layer{Location: "data:!!!!"} }, "base64"},
		"inline": {"", func(_ string, c *containerconfig.Config) {
			c.Layers[0] = containerconfig.Layer{Location: inline, GzipSize: 7}
		}, "gzipSize"},
		"nothing":     {"", func(_ string, c *containerconfig.Config) { *c = containerconfig.Config{} }, "adds nothing"},
		"path":        {"http://127.0.0.1:1/{arch}/fusion.json", nil, "one by one"},
		"one of two":  {"/v2.6-amd64.json", nil, "/fusion-amd64.tar.gz: a file"},
		"absent":      {"/v2.7-{arch}.json", nil, "404"},
		"no archive":  {"/v2.6-amd64.json?x=y#/a.tar", nil, "tar archive"},
		"no listener": {"http://127.0.0.1:1/secret.json?token=hidden", nil, "http://127.0.0.1:1/secret.json"},
		"no file":     {"/no/such/layer.tar", nil, "/no/such/layer.tar"},
		"a directory": {"testdata", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			url, _ := releases(t, test.change)
			dir, source := t.TempDir(), test.source
			switch {
			case source == "":
				source = url + "/v2.6-{arch}.json"
			case strings.HasPrefix(source, "/v2."):
				source = url + source
			}
			var out, errs bytes.Buffer
			if status := run(t.Context(), []string{"layer", "import", source, "--dir", dir}, &out, &errs); status == 0 || !strings.Contains(errs.String(), test.says) || strings.Contains(errs.String(), "hidden") {
				t.Errorf("status %d, %q, want text about %s", status, errs.String(), test.says)
			}
			if left := treeOf(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// TestAugmentFusion checks the request that the server receives.
func TestAugmentFusion(t *testing.T) {
	url, layers := releases(t, nil)
	var asked api.SubmitRequest
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = api.SubmitRequest{}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		fmt.Fprint(w, `{"targetImage":"localhost:9090/wt/x/library/busybox"}`)
	}))
	defer server.Close()
	t.Setenv("WAVEPROXY_FUSION_RELEASES", url)
	imported := t.TempDir()
	command(t, "layer", "import", url+"/v2.6-{arch}.json", "--dir", imported)
	remote := func(arch string) string { return url + "/pkg/2/6/0/fusion-" + arch + ".tar.gz" }
	for name, test := range map[string]struct {
		args       []string
		locations  []string // beginnings
		entrypoint string
	}{
		"both":        {[]string{"--fusion", "2.6"}, []string{remote("amd64"), remote("arm64")}, "/usr/bin/fusion"},
		"v":           {[]string{"--fusion", "v2.6", "--platform", "linux/arm64"}, []string{remote("arm64")}, "/usr/bin/fusion"},
		"own":         {[]string{"--fusion", "2.6", "--platform", "amd64", "--entrypoint", "/x"}, []string{remote("amd64")}, "/x"},
		"a document":  {[]string{"--container-config", url + "/v2.6-amd64.json"}, []string{remote("amd64")}, "/usr/bin/fusion"},
		"from a file": {[]string{"--container-config", imported + "/v2.6-{arch}.json", "--platform", "linux/amd64"}, []string{"data:H4sI"}, "/usr/bin/fusion"},
	} {
		t.Run(name, func(t *testing.T) {
			printed := command(t, append([]string{"augment", "busybox", "--server", server.URL}, test.args...)...)
			if printed != "localhost:9090/wt/x/library/busybox\n" {
				t.Errorf("printed %q", printed)
			}
			c := asked.ContainerConfig
			if len(c.Layers) != len(test.locations) || len(c.Entrypoint) != 1 || c.Entrypoint[0] != test.entrypoint {
				t.Fatalf("asked for %+v", c)
			}
			for i, l := range c.Layers {
				known := l.TarDigest == layers["amd64"].DiffID.String() || l.TarDigest == layers["arm64"].DiffID.String()
				if !strings.HasPrefix(l.Location, test.locations[i]) || !known {
					t.Errorf("layer %d: %.80s", i, l.Location)
				}
			}
		})
	}
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no version":        {[]string{"--fusion", "latest"}, "--fusion"},
		"absent":            {[]string{"--fusion", "2.7"}, "404"},
		"platform":          {[]string{"--fusion", "2.6", "--platform", "a/b/c/d"}, "--platform"},
		"two architectures": {[]string{"--container-config", imported + "/v2.6-{arch}.json"}, "name one with --platform"},
	} {
		t.Run(name, func(t *testing.T) {
			var out, errs bytes.Buffer
			if status := run(t.Context(), append([]string{"augment", "busybox", "--server", server.URL}, test.args...), &out, &errs); status == 0 || !strings.Contains(errs.String(), test.says) {
				t.Errorf("status %d, %q, want text about %s", status, errs.String(), test.says)
			}
		})
	}
}

func TestHealth(t *testing.T) {
	ready := true
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/readyz" || !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"message":"not ready: storage"}`)
		}
	}))
	defer server.Close()
	if printed := command(t, "health", "--server", server.URL+"/"); printed != "ok\n" {
		t.Errorf("printed %q", printed)
	}
	ready = false
	for url, says := range map[string]string{server.URL: "not ready: storage", "http://127.0.0.1:1": "127.0.0.1:1"} {
		var out, errs bytes.Buffer
		if status := run(t.Context(), []string{"health", "--server", url}, &out, &errs); status != 1 || !strings.Contains(errs.String(), says) {
			t.Errorf("status %d, %q, want text about %s", status, errs.String(), says)
		}
	}
}
