package api

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestForward: requests that need a build reach the configured Wave server byte
// for byte, its answers reach the client, and no other request reaches it.
func TestForward(t *testing.T) {
	const built = `{"requestId":"0123456789ab","targetImage":"registry.test/conda:1","buildId":"b-1",   "succeeded":null}`
	var mu sync.Mutex
	var got []string
	wave := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		mu.Lock()
		got = append(got, fmt.Sprintf("%s %s [%s] [%s] %s %v", r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), body, err))
		mu.Unlock()
		w.Header().Set("Content-Type", "application/json")
		if strings.Contains(string(body), `"freeze":true`) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message":"no build repository"}`)
			return
		}
		_, _ = io.WriteString(w, built)
	}))
	defer wave.Close()
	reg := upstream.Registry(t)
	harness.PushAliases(t, reg, "busybox:multi", "ubuntu:latest")
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_API_BUILDS_FORWARD"] = wave.URL
	p := harness.StartProxy(t, "", settings)
	captured := func(name string) string {
		body, err := os.ReadFile(filepath.Join(harness.ClientRequests, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	conda, freeze := captured("nextflow-conda.json"), captured("nextflow-freeze.json")

	resp, err := p.Call(t.Context(), http.MethodPost, "/v1alpha2/container", conda, "Authorization", "Bearer of-the-platform")
	if err != nil || resp.Status != http.StatusOK || resp.Body != built {
		t.Errorf("conda: %v, %d %s", err, resp.Status, resp.Body)
	}
	if resp := mustCall(t, p, http.MethodPost, "/v1alpha2/container", freeze, http.StatusBadRequest, nil); resp.Body != `{"message":"no build repository"}` {
		t.Errorf("freeze: %s", resp.Body)
	}
	// Nextflow asks for the status of a build at the server that took the
	// request.
	status := mustCall(t, p, http.MethodGet, "/v1alpha2/container/0123456789ab/status", "", http.StatusOK, nil)
	job := mustCall(t, p, http.MethodGet, "/v1alpha1/builds/b-1/status", "", http.StatusOK, nil)
	if status.Body != built || job.Body != built {
		t.Errorf("status %s, build %s", status.Body, job.Body)
	}

	// Requests that this server can answer, and requests about its own images,
	// are not forwarded.
	a := p.Augment(t, captured("nextflow-bundle.json"))
	harness.Verify(t, a.TargetImage)
	mustCall(t, p, http.MethodGet, "/v1alpha2/container/"+a.RequestID+"/status", "", http.StatusOK, nil)
	mustCall(t, p, http.MethodPost, "/v1alpha2/container", captured("nextflow-fusion.json"), http.StatusBadRequest, nil)
	mustCall(t, p, http.MethodPost, "/v1alpha2/container", `{"containerImage":"ubuntu:none"}`, http.StatusNotFound, nil)

	want := []string{
		"POST /v1alpha2/container [Bearer of-the-platform] [application/json] " + conda + " <nil>",
		"POST /v1alpha2/container [] [application/json] " + freeze + " <nil>",
		"GET /v1alpha2/container/0123456789ab/status [] []  <nil>",
		"GET /v1alpha1/builds/b-1/status [] []  <nil>",
	}
	mu.Lock()
	defer mu.Unlock()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("forwarded (-want +got):\n%s", diff)
	}
	if strings.Contains(p.Log.String(), "of-the-platform") {
		t.Error("the log holds a token")
	}
}

// TestForwardUnreachable: the client is told which server did not answer.
func TestForwardUnreachable(t *testing.T) {
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_API_BUILDS_FORWARD": "http://127.0.0.1:1"})
	resp := mustCall(t, p, http.MethodPost, "/v1alpha2/container", `{"packages": {"type": "CONDA"}}`, http.StatusBadGateway, nil)
	harness.WantMessage(t, resp.Body, "127.0.0.1:1", "api.builds.forward", "refused")
}

// TestEndpoints requests the endpoints that clients, old ones too, expect, and
// endpoints that may be missing.
func TestEndpoints(t *testing.T) {
	p := harness.StartProxy(t, "", nil)
	var info struct {
		ServiceInfo struct{ Version, CommitID string }
	}
	mustCall(t, p, http.MethodGet, "/service-info", "", http.StatusOK, &info)
	// The wave CLI compares the version with 1.31.0 and accepts no other form.
	var major, minor int
	if _, err := fmt.Sscanf(info.ServiceInfo.Version, "%d.%d.", &major, &minor); err != nil || major != 1 || minor < 31 || strings.Contains(info.ServiceInfo.Version, "-") {
		t.Errorf("version %q", info.ServiceInfo.Version)
	}
	var document struct{ OpenAPI string }
	mustCall(t, p, http.MethodGet, "/openapi.json", "", http.StatusOK, &document)
	if !strings.HasPrefix(document.OpenAPI, "3.1.") {
		t.Errorf("OpenAPI %q", document.OpenAPI)
	}
	for _, path := range []string{
		"/v1alpha1/builds/b-1", "/v1alpha1/builds/b-1/status", "/v1alpha1/builds/b-1/logs", "/v1alpha1/mirrors/m-1", "/v1alpha1/mirrors/m-1/logs",
		"/v1alpha1/scans/s-1", "/v1alpha1/scans/s-1/spdx", "/v1alpha2/containers", "//v1alpha2/container",
	} {
		resp := mustCall(t, p, http.MethodGet, path, "", http.StatusNotFound, nil)
		harness.WantMessage(t, resp.Body)
		if resp.Header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: content type %q", path, resp.Header.Get("Content-Type"))
		}
	}
	for path, method := range map[string]string{"/v1alpha2/container": http.MethodGet, "/service-info": http.MethodPost, "/container-token/x": http.MethodPut} {
		resp := mustCall(t, p, method, path, "", http.StatusMethodNotAllowed, nil)
		harness.WantMessage(t, resp.Body, method)
		if allow := resp.Header.Get("Allow"); allow == "" || strings.Contains(allow, method) {
			t.Errorf("%s %s: Allow %q", method, path, allow)
		}
	}
	resp, err := p.Call(t.Context(), http.MethodPost, "/v1alpha2/container", "<xml/>", "Content-Type", "text/xml")
	if err != nil || resp.Status != http.StatusUnsupportedMediaType {
		t.Errorf("XML: %v, %d", err, resp.Status)
	}
	harness.WantMessage(t, resp.Body, "text/xml", "application/json")
}
