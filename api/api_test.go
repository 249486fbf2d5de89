package api

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

// TestEveryRoute: each path of the table takes its methods. The refusal of other
// methods names them.
func TestEveryRoute(t *testing.T) {
	_, h := newAPI()
	methods := map[string][]string{}
	for _, r := range (server{}).routes() {
		methods[r.path] = append(methods[r.path], r.method)
	}
	if len(methods) < 15 {
		t.Fatalf("only %d paths", len(methods))
	}
	for path, methods := range methods {
		path = strings.NewReplacer("{id}", string(token), "{part}", "status").Replace(path)
		for _, method := range methods {
			if w := call(h, method, path, "{}"); w.Code == http.StatusMethodNotAllowed || strings.Contains(w.Body.String(), "no such endpoint") {
				t.Errorf("%s %s: %d %s", method, path, w.Code, w.Body)
			}
		}
		w := call(h, http.MethodPatch, path, "")
		checkError(t, w, http.StatusMethodNotAllowed, "not PATCH")
		for _, method := range methods {
			if !strings.Contains(w.Header().Get("Allow"), method) {
				t.Errorf("%s allows %q, not %s", path, w.Header().Get("Allow"), method)
			}
		}
	}
	w := call(h, http.MethodPut, "/container-token/"+string(token), "")
	if got := w.Header().Get("Allow"); got != "DELETE, GET, HEAD" {
		t.Errorf("Allow: %s", got)
	}
}

// TestNoSuchEndpoint: no answer is a redirect, because clients do not follow
// them.
func TestNoSuchEndpoint(t *testing.T) {
	_, h := newAPI()
	for _, path := range []string{
		"/", "/view/containers/x", "/v1alpha1/builds", "/v1alpha1/builds/", "/v1alpha1/builds/x/", "/v1alpha2//container",
		"//v1alpha2/container", "/v1alpha2/container/", "/v1alpha2/../container-token", "/v1alpha2/container/a/b", "/%0a", "/healthz/",
		"/elsewhere/" + string(token),
	} {
		for _, method := range []string{"GET", "POST", "OPTIONS"} {
			checkError(t, call(h, method, path, "{}"), http.StatusNotFound, "no such endpoint")
		}
	}
}

// TestJobs: the answer about builds is 404, which clients understand. They ask
// only about builds that a server has promised.
func TestJobs(t *testing.T) {
	_, h := newAPI()
	for _, path := range []string{"builds/bd-1_0", "builds/bd-1_0/status", "mirrors/mr-1", "mirrors/mr-1/logs", "scans/sc-1", "scans/sc-1/spdx"} {
		checkError(t, call(h, "GET", "/v1alpha1/"+path, ""), http.StatusNotFound, "makes no builds")
	}
}

func TestServiceInfo(t *testing.T) {
	_, h := newAPI()
	if got := call(h, "GET", "/service-info", "").Body.String(); got != `{"serviceInfo":{"version":"1.37.0","commitId":"abc"}}`+"\n" {
		t.Errorf("service info %s", got)
	}
}

func TestHealth(t *testing.T) {
	f, h := newAPI()
	for _, path := range []string{"/healthz", "/readyz"} {
		if w := call(h, "GET", path, ""); w.Code != http.StatusOK {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
	checkJSON(t, call(h, "GET", "/health", ""), `{"status": "UP"}`)
	checkJSON(t, call(h, "GET", "/readyz", ""), `{"status": "ok"}`)
	f.problems = []string{"a recipe waits"}
	checkJSON(t, call(h, "GET", "/readyz", ""), `{"status": "ok", "problems": ["a recipe waits"]}`)
	checkJSON(t, call(h, "GET", "/health", ""), `{"status": "UP"}`)
	f.ready = errors.New("the storage directory cannot be read")
	if w := call(h, "GET", "/health", ""); w.Code != http.StatusServiceUnavailable || strings.TrimSpace(w.Body.String()) != `{"status":"DOWN"}` {
		t.Errorf("/health of a server that is not ready: %d %s", w.Code, w.Body)
	}
	checkError(t, call(h, "GET", "/readyz", ""), http.StatusServiceUnavailable, "storage")
	if w := call(h, "GET", "/healthz", ""); w.Code != http.StatusOK {
		t.Errorf("/healthz of a server that is not ready: %d", w.Code)
	}
}

// TestUnmappedErrors: the text of an unmapped error is only in the log.
func TestUnmappedErrors(t *testing.T) {
	f, h := newAPI()
	f.err = errors.New("open /var/lib/secret: permission denied")
	for path, body := range map[string]string{
		"/v1alpha2/container":      `{"containerImage":"a"}`,
		"/v1alpha1/inspect":        `{"containerImage":"a"}`,
		"/v1alpha2/validate-creds": `{"userName":"u","password":"p"}`,
	} {
		w := call(h, "POST", path, body)
		checkError(t, w, http.StatusInternalServerError, "internal error")
		if strings.Contains(w.Body.String(), "secret") {
			t.Errorf("%s: %s", path, w.Body)
		}
	}
}
