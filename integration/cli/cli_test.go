package cli

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestAugmentCommand follows the README: a directory becomes a layer, stdout has
// only the image name, and the image has the file.
func TestAugmentCommand(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	scripts := filepath.Join(t.TempDir(), "scripts")
	harness.WriteFile(t, filepath.Join(scripts, "greet"), "#!/bin/sh\necho $GREETING\n", 0o755)
	archive := harness.LayerOf(t, harness.File{Name: "etc/from-archive", Mode: 0o644, Text: "archive"})
	plain := filepath.Join(t.TempDir(), "layer.tar")
	harness.WriteFile(t, plain, string(harness.Decompress(t, archive.Archive)), 0o644)
	server := []string{"WAVEPROXY_SERVER=" + p.URL}

	stdout, stderr, err := harness.Run(t, server, "augment", "busybox:multi", "--layer", scripts+":/usr/local/bin", "--layer", plain,
		"--env", "GREETING=hello", "--entrypoint", "/usr/local/bin/greet", "--cmd", "a b", "--workdir", "/srv", "--platform", "linux/amd64", "--ttl", "2h")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	image := strings.TrimSuffix(stdout, "\n")
	if !strings.HasPrefix(image, p.Host+"/wt/") || strings.ContainsAny(image, " \n") {
		t.Fatalf("stdout %q, want an image name alone", stdout)
	}
	if !strings.Contains(stderr, "docker.io/library/busybox:multi") {
		t.Errorf("stderr %q does not say what was augmented", stderr)
	}
	img := harness.Pull(t, image, "amd64")
	files, config := harness.Files(t, img), harness.MustConfig(t, img).Config
	if files["usr/local/bin/greet"] != "#!/bin/sh\necho $GREETING\n" || files["etc/from-archive"] != "archive" {
		t.Errorf("files %q and %q", files["usr/local/bin/greet"], files["etc/from-archive"])
	}
	if config.WorkingDir != "/srv" || len(config.Entrypoint) != 1 || len(config.Cmd) != 1 || config.Cmd[0] != "a b" {
		t.Errorf("config %+v", config)
	}

	stdout, stderr, err = harness.Run(t, server, "augment", "busybox:multi", "--layer", scripts, "-o", "json")
	if err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	var a harness.Answer
	if err := json.Unmarshal([]byte(stdout), &a); err != nil || !a.Succeeded || a.TargetDigest == "" {
		t.Errorf("-o json: %v, %s", err, stdout)
	}
	if left := time.Until(harness.MustTime(t, a.Expiration)); left < 36*time.Hour || left > 41*time.Hour {
		t.Errorf("expires in %s, want 36 h and up to an eighth more", left)
	}
	harness.Verify(t, a.TargetImage)
}

func TestAugmentCommandFails(t *testing.T) {
	reg := upstream.Registry(t)
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	empty := filepath.Join(t.TempDir(), "empty.tar.gz")
	harness.WriteFile(t, empty, "", 0o644)
	scripts := filepath.Join(t.TempDir(), "scripts")
	harness.WriteFile(t, filepath.Join(scripts, "greet"), "hello", 0o755)
	document := filepath.Join(t.TempDir(), "c.json")
	harness.WriteFile(t, document, `{"layers":[{"location":"data:AAAA"}]}`, 0o644)
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"layer of a document": {[]string{"--server", p.URL, "busybox", "--layer", scripts, "--container-config", document, "--platform", "amd64"}, "400 Bad Request: container config " + document + ", layer 1: layer is not"},
		"layer at a URL":      {[]string{"--server", p.URL, "busybox", "--layer", scripts, "--layer", "https://user:hunter2@none.invalid/l.tar"}, ": --layer https://none.invalid/l.tar: "},
		"variable":            {[]string{"--server", p.URL, "busybox", "--env", "A"}, "400 Bad Request: --env: env[0]: want KEY=VALUE"},
		"no server":           {[]string{"--server", "http://127.0.0.1:1", "busybox"}, "waveproxy serve"},
		"absent image":        {[]string{"--server", p.URL, "busybox:none"}, "docker.io/library/busybox:none"},
		"absent layer":        {[]string{"--server", p.URL, "busybox", "--layer", "/no/such/dir"}, "/no/such/dir"},
		"broken layer":        {[]string{"--server", p.URL, "busybox", "--layer", empty}, "empty"},
		"target of tar":       {[]string{"--server", p.URL, "busybox", "--layer", empty + ":/x"}, "directory"},
		"output":              {[]string{"--server", p.URL, "busybox", "-o", "xml"}, "xml"},
		"no image":            {[]string{"--server", p.URL}, "arg"},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := harness.Run(t, nil, append([]string{"augment"}, test.args...)...)
			if err == nil || stdout != "" || !strings.Contains(stderr, test.says) {
				t.Errorf("error %v, stdout %q, stderr %q; want %q", err, stdout, stderr, test.says)
			}
		})
	}
}

// TestRemoteLayer: a layer at a URL is fetched and checked once, and still served
// when its origin is gone.
func TestRemoteLayer(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	layer := harness.LayerOf(t, harness.File{Name: "agent", Mode: 0o755, Text: "agent"})
	fetched := 0
	origin := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fetched++
		if r.Header.Get("Authorization") != "" {
			t.Error("the origin was sent credentials")
		}
		_, _ = w.Write(layer.Archive)
	}))
	defer origin.Close()
	host := strings.TrimPrefix(origin.URL, "http://")
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": `{docker.io: {url: "` + reg.URL + `"}, "` + host + `": {plain_http: true}}`})
	remote := layer
	remote.Location = origin.URL + "/agent.tar.gz?signature=secret"
	req := harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Layers: []harness.Layer{remote}}}
	a := p.Augment(t, req)
	if b := p.Augment(t, req); b.ContainerToken != a.ContainerToken {
		t.Error("the same request got another name")
	}
	if fetched != 1 {
		t.Errorf("fetched %d times, want once", fetched)
	}
	wrong := remote
	wrong.TarDigest = "sha256:" + strings.Repeat("0", 64)
	if c := p.Submit(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Layers: []harness.Layer{wrong}}}); c.Status != http.StatusBadRequest {
		t.Errorf("a wrong tarDigest of a known layer: %d %s", c.Status, c.Raw)
	}
	// Knowing a digest is no permission to use a layer of another request.
	stolen := remote
	stolen.Location = origin.URL + "/other.tar.gz"
	layer.Archive = []byte("not the layer")
	if c := p.Submit(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Layers: []harness.Layer{stolen}}}); c.Status != http.StatusBadRequest {
		t.Errorf("another URL with a known digest: %d %s", c.Status, c.Raw)
	}
	origin.Close()
	if files := harness.Files(t, harness.Pull(t, a.TargetImage, "amd64")); files["agent"] != "agent" {
		t.Errorf("the layer has %q", files["agent"])
	}
	p.Augment(t, req)
	if strings.Contains(p.Log.String(), "signature=secret") {
		t.Error("the log holds a query string")
	}
	stdout, stderr, err := harness.Run(t, []string{"WAVEPROXY_SERVER=" + p.URL}, "augment", "busybox:oci", "--layer", remote.Location)
	if err == nil || stdout != "" || !strings.Contains(stderr, host) {
		t.Errorf("a URL without digests whose origin is gone: %v, %q", err, stderr)
	}
}

// TestInspectCommand: inspect says which layers are ours and which the
// upstream's.
func TestInspectCommand(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:multi", ContainerConfig: harness.Greeter(t)})
	type report struct {
		Digest    string
		Platforms []struct {
			Platform string
			Layers   []struct{ Source string }
		}
	}
	for image, want := range map[string][]string{a.TargetImage: {"upstream", "injected"}, reg.Host + "/library/busybox:multi": {""}} {
		stdout, stderr, err := harness.Run(t, nil, "inspect", image, "-o", "json")
		if err != nil {
			t.Fatalf("%v: %s", err, stderr)
		}
		var r report
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatal(err)
		}
		if len(r.Platforms) != 2 || r.Platforms[0].Platform != "linux/amd64" || r.Platforms[1].Platform != "linux/arm64" {
			t.Fatalf("platforms %+v", r.Platforms)
		}
		for _, platform := range r.Platforms {
			if len(platform.Layers) != len(want) {
				t.Fatalf("%s: layers %+v, want %q", image, platform.Layers, want)
			}
			for i := range want {
				if platform.Layers[i].Source != want[i] {
					t.Errorf("%s: layer %d from %q, want %q", image, i, platform.Layers[i].Source, want[i])
				}
			}
		}
	}
	stdout, stderr, err := harness.Run(t, nil, "inspect", a.TargetImage)
	if err != nil || !strings.Contains(stdout, a.TargetDigest) || !strings.Contains(stdout, "injected") || !strings.Contains(stdout, "GREETING=hello") {
		t.Errorf("%v %s\n%s", err, stderr, stdout)
	}
}

// TestTokenCommands decodes a token and revokes it under a running server.
func TestTokenCommands(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	req := harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}
	a := p.Augment(t, req)
	here := []string{"WAVEPROXY_STORAGE_DIR=" + p.Dir}
	manifest := p.URL + "/v2/wt/" + a.ContainerToken + "/library/busybox/manifests/oci"
	if status, body := harness.Get(t, manifest); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}

	stdout, stderr, err := harness.Run(t, here, "token", "decode", a.TargetImage)
	if err != nil || !strings.Contains(stdout, "verified yes") || !strings.Contains(stdout, "docker.io/library/busybox") || !strings.Contains(stdout, a.TargetDigest) {
		t.Errorf("decode: %v %s\n%s", err, stderr, stdout)
	}
	elsewhere := []string{"WAVEPROXY_STORAGE_DIR=" + filepath.Join(t.TempDir(), "none")}
	stdout, stderr, err = harness.Run(t, elsewhere, "token", "decode", a.ContainerToken)
	if err != nil || !strings.Contains(stdout, "expires") || strings.Contains(stdout, "verified") || !strings.Contains(stderr, "not verified") {
		t.Errorf("decode without the storage: %v %s\n%s", err, stderr, stdout)
	}
	if _, stderr, err := harness.Run(t, elsewhere, "token", "revoke", a.ContainerToken); err == nil || !strings.Contains(stderr, "no key") {
		t.Errorf("revoke without the storage: %v %s", err, stderr)
	}
	if _, stderr, err := harness.Run(t, here, "token", "revoke", harness.FlipBit(a.ContainerToken)); err == nil || !strings.Contains(stderr, "unknown token") {
		t.Errorf("revoke of a forged token: %v %s", err, stderr)
	}
	if _, stderr, err := harness.Run(t, here, "token", "revoke", a.TargetImage); err != nil {
		t.Fatalf("revoke: %v %s", err, stderr)
	}
	harness.WaitFor(t, 10*time.Second, func() bool {
		status, body := harness.Get(t, manifest)
		return status == http.StatusForbidden && strings.Contains(body, "DENIED") && strings.Contains(body, "revoked")
	})
	if b := p.Augment(t, req); b.ContainerToken == a.ContainerToken {
		t.Error("a revoked token was handed out again")
	}
}

// TestLayerPack: the same files give the same bytes, even with other modification
// times.
func TestLayerPack(t *testing.T) {
	var archives []string
	for i := range 2 {
		dir := filepath.Join(t.TempDir(), "files")
		harness.WriteFile(t, filepath.Join(dir, "b", "two"), "2", 0o755)
		harness.WriteFile(t, filepath.Join(dir, "a"), "1", 0o644)
		old := time.Now().Add(-time.Duration(i) * 1000 * time.Hour)
		if err := os.Chtimes(filepath.Join(dir, "a"), old, old); err != nil {
			t.Fatal(err)
		}
		output := filepath.Join(t.TempDir(), "layer.tar.gz")
		_, stderr, err := harness.Run(t, nil, "layer", "pack", dir+":/opt/x", "-o", output)
		if err != nil || !strings.Contains(stderr, "diffID sha256:") {
			t.Fatalf("%v %s", err, stderr)
		}
		data, err := os.ReadFile(output)
		if err != nil {
			t.Fatal(err)
		}
		archives = append(archives, harness.Sum(data))
	}
	if archives[0] != archives[1] {
		t.Errorf("digests differ: %v", archives)
	}
}

func TestConfigCheck(t *testing.T) {
	stdout, stderr, err := harness.Run(t, []string{"WAVEPROXY_REGISTRIES={registry.local: {username: u, password: hunter2}}"}, "config", "check", "--config", "../../config.example.yml")
	if err != nil || !strings.Contains(stdout, "registry.local") || strings.Contains(stdout+stderr, "hunter2") {
		t.Errorf("%v %s\n%s", err, stderr, stdout)
	}
	bad := filepath.Join(t.TempDir(), "bad.yml")
	harness.WriteFile(t, bad, "http: {adr: x}\ntokens: {ttl: 1s}\n", 0o644)
	_, stderr, err = harness.Run(t, nil, "config", "check", "--config", bad)
	if err == nil || !strings.Contains(stderr, "http.adr") {
		t.Errorf("%v %s", err, stderr)
	}
}

// TestDemo runs the demo, which is the first command that new users run.
func TestDemo(t *testing.T) {
	stdout, stderr, err := harness.Run(t, nil, "demo", "--once")
	if err != nil {
		t.Fatalf("%v %s", err, stderr)
	}
	for _, want := range []string{"untouched  sha256:", "added      sha256:", "usr/local/bin/greet", "GREETING=hello", "/wt/"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("the demo does not show %q:\n%s", want, stdout)
		}
	}
}

func TestVersion(t *testing.T) {
	if stdout, _, err := harness.Run(t, nil, "version"); err != nil || !strings.HasPrefix(stdout, "waveproxy ") {
		t.Errorf("%v %q", err, stdout)
	}
}
