package api

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// mustCall sends a request to the API and fails the test unless the answer has
// the status. It decodes the body into v unless v is nil.
func mustCall(t *testing.T, p *harness.Proxy, method, path, body string, status int, v any) harness.Response {
	t.Helper()
	resp, err := p.Call(t.Context(), method, path, body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.Status != status {
		t.Fatalf("%s %s: status %d, want %d: %s", method, path, resp.Status, status, resp.Body)
	}
	if v != nil {
		if err := json.Unmarshal([]byte(resp.Body), v); err != nil {
			t.Fatalf("%s %s: %v: %s", method, path, err, resp.Body)
		}
	}
	return resp
}

// TestDescribe: a submission can be looked up, in the form of both versions of
// the API, without the contents of layers.
func TestDescribe(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	secret := harness.LayerOf(t, harness.File{Name: "secret", Mode: 0o600, Text: "known to its owner"})
	body := harness.NextflowRequest(t, map[string]any{"containerImage": "busybox:multi", "containerConfig": harness.NextflowConfig(harness.Config{
		Entrypoint: []string{"/e"}, Env: []string{"A=b"}, WorkingDir: "/w", Layers: []harness.Layer{secret},
	})})
	a := p.Augment(t, body)
	var old harness.Answer
	mustCall(t, p, http.MethodPost, "/container-token", body, http.StatusOK, &old)
	if old.TargetImage != a.TargetImage {
		t.Errorf("Nextflow 23.10 gets %s, later ones %s", old.TargetImage, a.TargetImage)
	}

	var record, token map[string]any
	raw := mustCall(t, p, http.MethodGet, "/v1alpha2/container/"+a.RequestID, "", http.StatusOK, &record).Body +
		mustCall(t, p, http.MethodGet, "/container-token/"+a.RequestID, "", http.StatusOK, &token).Body
	if content := strings.TrimPrefix(secret.Location, "data:"); strings.Contains(raw, content) || strings.Contains(p.Log.String(), content) {
		t.Error("a description or the log holds the contents of a layer")
	}
	created, _ := record["timestamp"].(string)
	if age := time.Since(harness.MustTime(t, created)); age < 0 || age > time.Hour {
		t.Errorf("created %s", created)
	}
	if fingerprint, _ := record["fingerprint"].(string); len(fingerprint) != 32 {
		t.Errorf("fingerprint %q: want the client's", fingerprint)
	}
	added := map[string]any{"entrypoint": []any{"/e"}, "env": []any{"A=b"}, "workingDir": "/w", "layers": []any{map[string]any{
		"location": "data:DATA+OMITTED", "gzipDigest": secret.GzipDigest, "gzipSize": float64(secret.GzipSize), "tarDigest": secret.TarDigest,
	}}}
	const image = "docker.io/library/busybox:multi"
	if diff := cmp.Diff(map[string]any{
		"id": a.RequestID, "containerImage": image, "containerConfig": added, "platform": "linux/amd64", "timestamp": created, "fingerprint": record["fingerprint"], "expiration": a.Expiration,
		"sourceImage": image, "sourceDigest": a.SourceDigest, "waveImage": a.TargetImage, "waveDigest": a.TargetDigest, "freeze": false, "mirror": false,
	}, record); diff != "" {
		t.Errorf("record (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]any{
		"token": a.ContainerToken, "expiration": a.Expiration,
		"request": map[string]any{"containerImage": image, "containerConfig": added, "platform": "linux/amd64", "timestamp": created, "fingerprint": record["fingerprint"]},
		"source":  map[string]any{"image": image, "digest": a.SourceDigest},
		"wave":    map[string]any{"image": a.TargetImage, "digest": a.TargetDigest},
	}, token); diff != "" {
		t.Errorf("token (-want +got):\n%s", diff)
	}
	for _, id := range []string{harness.FlipBit(a.RequestID), "0123456789ab", "x"} {
		for _, path := range []string{"/v1alpha2/container/" + id, "/v1alpha2/container/" + id + "/status", "/container-token/" + id} {
			harness.WantMessage(t, mustCall(t, p, http.MethodGet, path, "", http.StatusNotFound, nil).Body, "no such container request")
		}
	}
}

// TestDelete: only admins revoke a token, and it ends on every server of the
// storage.
func TestDelete(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	const password = "hunter2 and more"
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_API_ADMINS"] = fmt.Sprintf("{ops: %q}", hash)
	p := harness.StartProxy(t, "", settings)
	replica := harness.StartProxy(t, p.Dir, harness.DockerHub(reg.URL))
	req := harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}
	a := p.Augment(t, req)
	remove := func(server *harness.Proxy, login string) harness.Response {
		t.Helper()
		var header []string
		if login != "" {
			header = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(login))}
		}
		resp, err := server.Call(t.Context(), http.MethodDelete, "/container-token/"+a.ContainerToken, "", header...)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, login := range []string{"", "ops:wrong", "root:" + password} {
		r := remove(p, login)
		if r.Status != http.StatusUnauthorized || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Basic ") {
			t.Errorf("login %q: %d %s", login, r.Status, r.Header)
		}
		harness.WantMessage(t, r.Body, "api.admins")
	}
	if r := remove(replica, "ops:"+password); r.Status != http.StatusForbidden {
		t.Errorf("on a server without admins: %d %s", r.Status, r.Body)
	}
	manifest := "/v2/wt/" + a.ContainerToken + "/library/busybox/manifests/oci"
	for _, server := range []*harness.Proxy{p, replica} {
		if status, body := harness.Get(t, server.URL+manifest); status != http.StatusOK {
			t.Fatalf("before it was deleted: %d %s", status, body)
		}
	}
	if r := remove(p, "ops:"+password); r.Status != http.StatusOK || r.Body != "" {
		t.Fatalf("delete: %d %q", r.Status, r.Body)
	}
	for _, server := range []*harness.Proxy{p, replica} {
		harness.WaitFor(t, 10*time.Second, func() bool {
			status, body := harness.Get(t, server.URL+manifest)
			return status == http.StatusForbidden && strings.Contains(body, "DENIED") && strings.Contains(body, "revoked")
		})
		mustCall(t, server, http.MethodGet, "/v1alpha2/container/"+a.RequestID+"/status", "", http.StatusNotFound, nil)
	}
	if again := p.Augment(t, req); again.ContainerToken == a.ContainerToken {
		t.Error("a deleted token was handed out again")
	}
	if strings.Contains(p.Log.String()+replica.Log.String(), password) {
		t.Error("the log holds a password")
	}
}

// TestInspect compares the answer with the registry's own image.
// TestClientRequests inspects an index.
func TestInspect(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:entry", "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	for _, test := range []struct{ image, query, arch string }{
		{"busybox:entry", "", "amd64"},
		{"busybox:entry", "?platform=x86_64", "amd64"},
		{"busybox:multi", "?platform=linux/arm64", "arm64"},
	} {
		t.Run(test.image+test.query, func(t *testing.T) {
			var got struct{ Container inspected }
			mustCall(t, p, http.MethodPost, "/v1alpha1/inspect"+test.query, fmt.Sprintf(`{"containerImage":%q}`, test.image), http.StatusOK, &got)
			img := harness.Pull(t, reg.Host+"/library/"+test.image, test.arch)
			config := harness.MustConfig(t, img)
			digest, err := img.Digest()
			if err != nil {
				t.Fatal(err)
			}
			manifest, err := img.Manifest()
			if err != nil {
				t.Fatal(err)
			}
			want := inspected{Registry: "docker.io", HostName: "https://registry-1.docker.io", ImageName: "library/busybox", Reference: strings.TrimPrefix(test.image, "busybox:"), Digest: digest.String()}
			want.Config.Architecture, want.Config.Created = test.arch, config.Created.UTC().Format(time.RFC3339Nano)
			want.Config.Config.Entrypoint, want.Config.Config.Cmd = append([]string{}, config.Config.Entrypoint...), config.Config.Cmd
			want.Config.Config.Env, want.Config.Config.WorkingDir = config.Config.Env, config.Config.WorkingDir
			for _, d := range config.RootFS.DiffIDs {
				want.Config.RootFS.DiffIDs = append(want.Config.RootFS.DiffIDs, d.String())
			}
			want.Manifest.MediaType = string(manifest.MediaType)
			for _, l := range manifest.Layers {
				want.Manifest.Layers = append(want.Manifest.Layers, inspectedLayer{string(l.MediaType), l.Digest.String(), l.Size})
				// The wave CLI shows this URL as the layer's address.
				_, blob := harness.Get(t, reg.URL+"/v2/"+got.Container.ImageName+"/blobs/"+l.Digest.String())
				if harness.Sum([]byte(blob)) != l.Digest.String() {
					t.Errorf("the layer is not at the answer's address: %.200s", blob)
				}
			}
			if diff := cmp.Diff(want, got.Container); diff != "" {
				t.Errorf("container (-want +got):\n%s", diff)
			}
		})
	}
	for name, test := range map[string]struct {
		query, body string
		status      int
		says        string
	}{
		"no image":        {"", `{"containerImage":null}`, http.StatusBadRequest, "containerImage"},
		"absent image":    {"", `{"containerImage":"busybox:none"}`, http.StatusNotFound, "busybox:none"},
		"lacks platform":  {"?platform=s390x", `{"containerImage":"busybox:multi"}`, http.StatusBadRequest, "linux/amd64, linux/arm64"},
		"two platforms":   {"?platform=amd64,arm64", `{"containerImage":"busybox:multi"}`, http.StatusBadRequest, "amd64,arm64"},
		"private address": {"", `{"containerImage":"10.255.255.1/a:b"}`, http.StatusForbidden, "10.255.255.1"},
	} {
		t.Run(name, func(t *testing.T) {
			harness.WantMessage(t, mustCall(t, p, http.MethodPost, "/v1alpha1/inspect"+test.query, test.body, test.status, nil).Body, test.says)
		})
	}
}

// inspected has the members of an inspected image that the wave CLI reads.
type inspected struct {
	Registry, HostName, ImageName, Reference, Digest string

	Config struct {
		Architecture, Created string
		Config                struct {
			Env, Cmd, Entrypoint []string
			WorkingDir           string
		}
		RootFS struct {
			DiffIDs []string `json:"diff_ids"`
		}
	}
	Manifest struct {
		MediaType string
		Layers    []inspectedLayer
	}
}

type inspectedLayer struct {
	MediaType, Digest string
	Size              int64
}

// TestValidateCredentials validates logins at a registry that requires one.
func TestValidateCredentials(t *testing.T) {
	login := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ci" || password != "hunter2" {
			w.Header().Set("WWW-Authenticate", `Basic realm="login"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer login.Close()
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{login.test: {url: %q}, closed.test: {url: "http://127.0.0.1:1"}}`, login.URL)})
	for password, want := range map[string]bool{"hunter2": true, "hunter3": false} {
		creds := fmt.Sprintf(`{"userName":"ci","password":%q,"registry":"login.test"}`, password)
		for path, body := range map[string]string{"/v1alpha2/validate-creds": creds, "/validate-creds": `{"request":` + creds + `}`} {
			var got bool
			mustCall(t, p, http.MethodPost, path, body, http.StatusOK, &got)
			if got != want {
				t.Errorf("%s with %s: %v", path, password, got)
			}
		}
	}
	for name, test := range map[string]struct {
		registry string
		password string
		status   int
		says     string
	}{
		"unreachable":     {"closed.test", "hunter2", http.StatusBadGateway, "closed.test"},
		"private address": {"169.254.169.254", "hunter2", http.StatusForbidden, "169.254.169.254"},
		"blank password":  {"login.test", " ", http.StatusBadRequest, "password"},
	} {
		t.Run(name, func(t *testing.T) {
			body := fmt.Sprintf(`{"userName":"ci","password":%q,"registry":%q}`, test.password, test.registry)
			harness.WantMessage(t, mustCall(t, p, http.MethodPost, "/v1alpha2/validate-creds", body, test.status, nil).Body, test.says)
		})
	}
	if log := p.Log.String(); strings.Contains(log, "hunter2") || strings.Contains(log, "hunter3") {
		t.Error("the log holds a password")
	}
}
