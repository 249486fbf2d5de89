package api

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream"
)

const (
	inspect     = "/v1alpha1/inspect"
	ociManifest = "application/vnd.oci.image.manifest.v1+json"
	ociIndex    = "application/vnd.oci.image.index.v1+json"
)

func TestInspectContainer(t *testing.T) {
	config := augment.NewObject("application/vnd.oci.image.config.v1+json", []byte(`{
		"architecture": "amd64", "os": "linux", "created": "2024-01-01T01:00:00.5+01:00", "container": "c0ffee",
		"config": {"Hostname": "h", "Domainname": "d", "User": "u", "AttachStdin": true, "Tty": true, "Env": ["PATH=/bin"], "Cmd": ["sh"],
			"Image": "i", "WorkingDir": "/w", "Entrypoint": null, "Labels": {"Key": "v"}, "Healthcheck": {"Test": ["NONE"]}, "ExposedPorts": {"80/tcp": {}}},
		"rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}, "history": []}`))
	manifest := augment.NewObject(ociManifest, []byte(fmt.Sprintf(`{
		"schemaVersion": 2, "config": {"mediaType": "c", "digest": %q, "size": 9, "data": "e30="},
		"layers": [{"mediaType": "l", "digest": "sha256:11", "size": 5}, {"mediaType": "l", "digest": "sha256:22", "size": 6, "annotations": {"a": "b"}}]}`, config.Digest)))
	f, h := newAPI()
	f.inspection = assemble.Inspection{Host: "https://registry-1.docker.io", Root: manifest, Manifest: &manifest, Config: &config}
	w := call(h, "POST", inspect, fixture(t, "wavecli-inspect"), "Content-Type", "application/json")
	checkJSON(t, w, fmt.Sprintf(`{"container": {
		"registry": "docker.io", "hostName": "https://registry-1.docker.io", "imageName": "library/alpine", "reference": "latest", "digest": %q,
		"config": {"architecture": "amd64", "created": "2024-01-01T00:00:00.5Z", "container": "c0ffee",
			"config": {"hostName": "h", "domainName": "d", "user": "u", "attachStdin": true, "attachStdout": false, "attachStderr": false, "tty": true,
				"env": ["PATH=/bin"], "cmd": ["sh"], "image": "i", "workingDir": "/w", "entrypoint": [], "labels": {"Key": "v"}},
			"rootfs": {"type": "layers", "diff_ids": ["sha256:00"]}},
		"manifest": {"schemaVersion": 2, "mediaType": %q, "annotations": {}, "config": {"mediaType": "c", "digest": %q, "size": 9},
			"layers": [{"mediaType": "l", "digest": "sha256:11", "size": 5}, {"mediaType": "l", "digest": "sha256:22", "size": 6, "annotations": {"a": "b"}}]},
		"v1": false, "v2": true, "oci": true}}`, manifest.Digest, ociManifest, config.Digest))
}

// TestInspectSparse: missing members of an image are empty, and an invalid time
// is left out, because clients fail otherwise.
func TestInspectSparse(t *testing.T) {
	config := augment.NewObject("", []byte(`{"created": "yesterday", "config": null, "rootfs": {"type": "layers", "diff_ids": null}}`))
	manifest := augment.NewObject("application/octet-stream", []byte(`{"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "config": {}, "layers": null, "annotations": null}`))
	f, h := newAPI()
	f.inspection = assemble.Inspection{Host: "http://localhost:5000", Root: manifest, Manifest: &manifest, Config: &config}
	pinned := "localhost:5000/a:1@" + digest.FromString("x").String()
	checkJSON(t, call(h, "POST", inspect, `{"containerImage": "`+pinned+`"}`), fmt.Sprintf(`{"container": {
		"registry": "localhost:5000", "hostName": "http://localhost:5000", "imageName": "a", "reference": %q, "digest": %q,
		"config": {"architecture": "",
			"config": {"hostName": "", "domainName": "", "user": "", "attachStdin": false, "attachStdout": false, "attachStderr": false, "tty": false,
				"env": [], "cmd": [], "image": "", "workingDir": "", "entrypoint": [], "labels": {}},
			"rootfs": {"type": "layers", "diff_ids": []}},
		"manifest": {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json", "annotations": {}, "config": {"mediaType": "", "digest": "", "size": 0}, "layers": []},
		"v1": false, "v2": true, "oci": false}}`, digest.FromString("x"), manifest.Digest))
}

func TestInspectIndex(t *testing.T) {
	index := augment.NewObject(ociIndex, []byte(`{"schemaVersion": 2, "manifests": [
		{"mediaType": "m", "digest": "sha256:00", "size": 5, "platform": {"architecture": "arm", "os": "linux", "variant": "v7", "os.version": "1"}},
		{"mediaType": "m", "digest": "sha256:11", "size": 6, "annotations": {"a": "b"}}], "annotations": {"x": "y"}}`))
	f, h := newAPI()
	f.inspection = assemble.Inspection{Root: index}
	checkJSON(t, call(h, "POST", inspect, `{"containerImage": "alpine"}`), fmt.Sprintf(`{"index": {"schemaVersion": 2, "mediaType": %q, "digest": %q, "manifests": [
		{"mediaType": "m", "digest": "sha256:00", "size": 5, "platform": {"architecture": "arm", "os": "linux", "variant": "v7"}},
		{"mediaType": "m", "digest": "sha256:11", "size": 6, "annotations": {"a": "b"}}]}}`, ociIndex, index.Digest))
}

func TestInspectAsks(t *testing.T) {
	for _, test := range []struct{ query, body, authorization, want string }{
		{"", `{"containerImage":"a","towerWorkspaceId":"1"}`, "", "inspect  docker.io/library/a"},
		{"?platform=", `{"containerImage":"a"}`, "", "inspect  docker.io/library/a"},
		{"?platform=x86_64", `{"containerImage":"a"}`, "Bearer tok", "inspect platform:1a7674eb4ee78df7 docker.io/library/a linux/amd64"},
		{"?platform=linux%2Farm64%2Fv8", `{"containerImage":"quay.io/a/b:1","towerAccessToken":"tok"}`, "", "inspect platform:1a7674eb4ee78df7 quay.io/a/b:1 linux/arm64"},
	} {
		f, h := newAPI()
		f.inspection.Root = augment.NewObject(ociIndex, []byte(`{}`))
		w := call(h, "POST", inspect+test.query, test.body, "Authorization", test.authorization)
		if w.Code != http.StatusOK || len(f.calls) != 1 || f.calls[0] != test.want {
			t.Errorf("%+v: %d %s, %q", test, w.Code, w.Body, f.calls)
		}
	}
}

func TestInspectRefuses(t *testing.T) {
	for _, test := range []struct{ query, body, says string }{
		{"", `{}`, "containerImage is missing"},
		{"", `{"containerImage":"A"}`, "containerImage"},
		{"?platform=linux/amd64,linux/arm64", `{"containerImage":"a"}`, "one image"},
		{"?platform=a+b", `{"containerImage":"a"}`, "platform"},
	} {
		f, h := newAPI()
		checkError(t, call(h, "POST", inspect+test.query, test.body), http.StatusBadRequest, test.says)
		if len(f.calls) != 0 {
			t.Errorf("%+v went on to %q", test, f.calls)
		}
	}
	// An inspected image's name may be longer than a name to pull.
	f, h := newAPI()
	f.err = &upstream.Error{Kind: upstream.NotFound, Op: "pull manifest", Name: "a"}
	checkError(t, call(h, "POST", inspect, `{"containerImage":"`+strings.Repeat("a/", 105)+`a"}`), http.StatusNotFound, "does not exist")
	f.err = nil
	broken := augment.NewObject(ociManifest, []byte(`{"layers": {}}`))
	f.inspection = assemble.Inspection{Root: broken, Manifest: &broken, Config: &broken}
	checkError(t, call(h, "POST", inspect, `{"containerImage":"a"}`), http.StatusBadRequest, broken.Digest.String())
}

// TestInspectBound: an answer is bounded, and held as long as its request lasts.
func TestInspectBound(t *testing.T) {
	document := func(size int) augment.Object {
		return augment.NewObject(ociIndex, []byte(`{"manifests": [], "x": "`+strings.Repeat("<", size)+`"}`))
	}
	f, h := newAPI()
	f.inspection = assemble.Inspection{Root: document(maxInspected)}
	checkError(t, call(h, "POST", inspect, `{"containerImage": "alpine"}`), http.StatusRequestEntityTooLarge, "can be inspected")
	f.inspection = assemble.Inspection{Root: augment.NewObject(ociIndex, []byte(`{"manifests": [`+strings.Repeat("{},", 300_000)+`{}]}`))}
	checkError(t, call(h, "POST", inspect, `{"containerImage": "alpine"}`), http.StatusBadRequest, "elements")

	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 64 << 20, All: 256 << 20}})
	f.inspection = assemble.Inspection{Root: document(maxInspected - 100)}
	passed, refused := 0, 0
	ctx, end := context.WithCancel(budget.With(t.Context(), ledger.Open("a")))
	for range 6 {
		r := httptest.NewRequest("POST", inspect, strings.NewReader(`{"containerImage": "alpine"}`)).WithContext(ctx)
		r.Host = "localhost:9090"
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		switch w.Code {
		case http.StatusOK:
			passed++
		case http.StatusTooManyRequests:
			refused++
		default:
			t.Errorf("status %d: %s", w.Code, w.Body)
		}
	}
	if passed == 0 || refused == 0 {
		t.Errorf("%d at once are answered and %d refused", passed, refused)
	}
	end()
	for start := time.Now(); ledger.Held(budget.Memory) != 0; time.Sleep(time.Millisecond) {
		if time.Since(start) > 10*time.Second {
			t.Fatal("memory is held after the requests have ended")
		}
	}
}
