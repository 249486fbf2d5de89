package clients

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestClientRequests replays every captured body.
func TestClientRequests(t *testing.T) {
	reg := upstream.Registry(t)
	harness.PushAliases(t, reg, "busybox:multi", "ubuntu:latest", "alpine:latest")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	augmented := func(arch string) func(*testing.T, string) {
		return func(t *testing.T, body string) { replayAugmentation(t, p, reg, body, arch) }
	}
	refused := func(status int, says ...string) func(*testing.T, string) {
		return func(t *testing.T, body string) { replayRefusal(t, p, reg, body, status, says) }
	}
	tests := map[string]func(t *testing.T, body string){
		"nextflow-plain.json":          augmented("amd64"),
		"nextflow-platform-arm64.json": augmented("arm64"),
		"nextflow-bundle.json":         augmented("amd64"),
		"wavecli-image.json":           augmented("amd64"),
		"wavecli-layer.json":           augmented("amd64"),
		"wavecli-config.json":          augmented("arm64"),
		"nextflow-conda.json":          refused(http.StatusNotImplemented, "packages", "containerImage"),
		"nextflow-freeze.json":         refused(http.StatusNotImplemented, "freeze"),
		"wavecli-containerfile.json":   refused(http.StatusNotImplemented, "containerFile", "containerImage"),
		// Its digests are placeholders.
		"nextflow-fusion.json": refused(http.StatusBadRequest, "layers[2].gzipDigest", `"sha256:1"`),
		"wavecli-inspect.json": func(t *testing.T, body string) { replayInspection(t, p, reg, body) },
	}
	files, err := filepath.Glob(filepath.Join(harness.ClientRequests, "*.json"))
	if err != nil || len(files) != len(tests) {
		t.Fatalf("%d bodies (%v), %d tests", len(files), err, len(tests))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tests[filepath.Base(file)](t, string(body))
		})
	}
}

// replayAugmentation submits the body, pulls the image, and compares it with its
// base and the request's additions.
func replayAugmentation(t *testing.T, p *harness.Proxy, reg *upstream.Server, body, arch string) {
	sent := harness.Request{ContainerConfig: &harness.Config{}}
	if err := json.Unmarshal([]byte(body), &sent); err != nil {
		t.Fatal(err)
	}
	image, _, _ := strings.Cut(sent.ContainerImage, ":")
	image = "library/" + image + ":latest"
	a := p.Augment(t, body)
	if a.RequestID == "" || a.RequestID != a.ContainerToken || a.ContainerImage != "docker.io/"+image {
		t.Errorf("answer %s", a.Raw)
	}
	if want := p.Host + "/wt/" + a.ContainerToken + "/" + image; a.TargetImage != want {
		t.Errorf("image name %s, want %s", a.TargetImage, want)
	}
	if !harness.MustTime(t, a.Expiration).After(time.Now().Add(35 * time.Hour)) {
		t.Errorf("expires %s, want 36 hours from now or later", a.Expiration)
	}

	base, got := harness.Pull(t, reg.Host+"/"+image, arch), harness.Pull(t, a.TargetImage, arch)
	files, add := harness.Files(t, base), sent.ContainerConfig
	if files["etc/image-arch"] != arch+"\n" {
		t.Fatalf("the base is for %q", files["etc/image-arch"])
	}
	if len(add.Entrypoint)+len(add.Cmd)+len(add.Env)+len(add.Layers) == 0 {
		if a.TargetDigest != a.SourceDigest {
			t.Errorf("nothing is added, and the image %s is not the base %s", a.TargetDigest, a.SourceDigest)
		}
	} else if digest := harness.Verify(t, a.TargetImage); digest != a.TargetDigest || digest == a.SourceDigest {
		t.Errorf("pulled %s, promised was %s; the base is %s", digest, a.TargetDigest, a.SourceDigest)
	}
	for _, l := range add.Layers {
		archive, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(l.Location, "data:"))
		if err != nil {
			t.Fatal(err)
		}
		maps.Copy(files, harness.Unpack(t, bytes.NewReader(harness.Decompress(t, archive))))
	}
	if diff := cmp.Diff(files, harness.Files(t, got)); diff != "" {
		t.Errorf("file system (-want +got):\n%s", diff)
	}
	want, has := harness.MustConfig(t, base).Config, harness.MustConfig(t, got).Config
	want.Env = append(want.Env, add.Env...)
	if len(add.Entrypoint) > 0 {
		want.Entrypoint = add.Entrypoint
	}
	if len(add.Cmd) > 0 {
		want.Cmd = add.Cmd
	}
	if add.WorkingDir != "" {
		want.WorkingDir = add.WorkingDir
	}
	if diff := cmp.Diff(want, has); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// replayRefusal submits the body. The answer must be printable as it is, and the
// request must leave no trace.
func replayRefusal(t *testing.T, p *harness.Proxy, reg *upstream.Server, body string, status int, says []string) {
	before := harness.Stored(t, p.Dir)
	reg.Reset()
	a := p.Submit(t, body)
	if a.Status != status {
		t.Errorf("status %d, want %d", a.Status, status)
	}
	harness.WantMessage(t, a.Raw, says...)
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("the refused request asked the upstream for %v", requests)
	}
	if after := harness.Stored(t, p.Dir); after != before {
		t.Errorf("it stored something:\n%s", after)
	}
}

// replayInspection inspects without a platform: the answer must be the index as
// its registry has it.
func replayInspection(t *testing.T, p *harness.Proxy, reg *upstream.Server, body string) {
	resp, err := p.Call(t.Context(), http.MethodPost, "/v1alpha1/inspect", body)
	if err != nil || resp.Status != http.StatusOK {
		t.Fatalf("%v, status %d: %s", err, resp.Status, resp.Body)
	}
	index, err := remote.Index(harness.MustRef(t, reg.Host+"/library/alpine:latest"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := index.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	var want, got map[string]any
	if err := json.Unmarshal(raw, &want); err != nil {
		t.Fatal(err)
	}
	want["digest"] = harness.Sum(raw)
	if err := json.Unmarshal([]byte(resp.Body), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]any{"index": want}, got); diff != "" {
		t.Errorf("answer (-want +got):\n%s", diff)
	}
}
