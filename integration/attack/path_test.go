package attack

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// trickyPaths are paths that careless parsing takes for other paths. TOKEN stands
// for a good token for library/busybox:oci, and DIGEST for the digest of a layer
// that the token opens.
var trickyPaths = []string{
	"/v2/wt/TOKEN/library/..%2flibrary/busybox/manifests/oci", "/v2/wt/TOKEN/library/../library/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/%2e%2e/library/busybox/manifests/oci", "/v2/wt/TOKEN/library/%2E%2e%2Flibrary/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/%252e%252e/busybox/manifests/oci", `/v2/wt/TOKEN/library\..\busybox/manifests/oci`, "/v2/wt/TOKEN/library/..%5cbusybox/manifests/oci",
	"/v2/wt/TOKEN//library/busybox/manifests/oci", "//v2/wt/TOKEN/library/busybox/manifests/oci", "/v2//wt/TOKEN/library/busybox/manifests/oci",
	"/v2/wt//TOKEN/library/busybox/manifests/oci", "/v2/wt/TOKEN/library//busybox/manifests/oci", "/v2/wt/TOKEN/library/busybox//manifests/oci",
	"/v2/wt/TOKEN/library/busybox/manifests//oci", "/v2/wt/TOKEN/library/busybox/manifests/oci/", "/v2/wt/TOKEN/library/busybox/manifests/oci//",
	"/./v2/wt/TOKEN/library/busybox/manifests/oci", "/v2/./wt/TOKEN/library/busybox/manifests/oci", "/v2/wt/TOKEN/./library/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/busybox/manifests/./oci", "/v2/wt/TOKEN/library/busybox/manifests/oci/.", "/v2/wt/TOKEN/library/busybox/manifests/oci/..",
	"/v2/wt/TOKEN/library/busybox/manifests/..", "/v2/wt/TOKEN/library/busybox/manifests/..%2ftags%2flist", "/v2/wt/x/../TOKEN/library/busybox/manifests/oci",
	"/V2/wt/TOKEN/library/busybox/manifests/oci", "/v2/WT/TOKEN/library/busybox/manifests/oci", "/v2/wt/TOKEN/Library/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/BusyBox/manifests/oci", "/v2/wt/TOKEN/library/busybox/Manifests/oci", "/v2/wt/TOKEN/library/busybox/BLOBS/DIGEST",
	"/v2/wt/TOKEN/library/busybox%00/manifests/oci", "/v2/wt/TOKEN/library/busybox/manifests/oci%00", "/v2/wt/TOKEN%00/library/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/busybox/manifests%00/oci", "/v2/wt/TOKEN/library/%00/../busybox/manifests/oci", "/v2/%00", "/%00",
	"/v2/wt/TOKEN/library/b%C3%BCsybox/manifests/oci", "/v2/wt/TOKEN/library/büsybox/manifests/oci", "/v2/wt/TOKEN/library/%c0%ae%c0%ae/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/．．/busybox/manifests/oci", "/v2/wt/TOKEN/library／busybox/manifests/oci", "/v2/wt/TOKEN/library/busybox%E2%80%8B/manifests/oci",
	"/v2/wt/TOKEN/library/busybox/manifests/oci%E2%80%AE", "/v2/wt/TOKEN/library/%ff%fe/manifests/oci", "/v2/wt/TOKEN/library/busyboх/manifests/oci",
	"/v2/wt/TOKEN/" + strings.Repeat("a/", 300) + "manifests/oci", "/v2/wt/TOKEN/library/busybox/" + strings.Repeat("manifests/oci/", 300) + "manifests/oci",
	"/v2/wt/TOKEN/" + strings.Repeat("a", 256) + "/manifests/oci", "/v2/wt/TOKEN/" + strings.Repeat("a", 60000) + "/manifests/oci",
	"/v2/wt/TOKEN/library/busybox/manifests/" + strings.Repeat("o", 129), "/v2/wt/TOKEN/library/busybox/manifests/" + strings.Repeat("../", 1000),
	"/v2/wt/TOKEN/library/busybox/manifests/oci%20", "/v2/wt/TOKEN/library/busybox/manifests/oci%0d%0aX-Injected:%20yes", "/v2/wt/TOKEN/library/busybox/manifests/oci%0a",
	"/v2/wt/TOKEN/library;v=1/busybox/manifests/oci", "/v2/wt/TOKEN/library/busybox/manifests/oci;v=1", "/v2/wt/TOKEN/library/busybox:oci/manifests/oci",
	"/v2/wt/TOKEN/library/busybox@DIGEST/manifests/oci", "/v2/wt/TOKEN/docker.io:443/library/busybox/manifests/oci", "/v2/wt/TOKEN/http://127.0.0.1/library/busybox/manifests/oci",
	"/v2/wt/TOKEN/library/busybox/blobs/sha256:..%2f..%2f..%2fkey", "/v2/wt/TOKEN/library/busybox/blobs/..%2fkey", "/v2/wt/TOKEN/library/busybox/blobs/sha256:",
	"/v2/wt/TOKEN/library/busybox/blobs/sha256:" + strings.Repeat("A", 64), "/v2/wt/TOKEN/library/busybox/blobs/DIGEST%00", "/v2/wt/TOKEN/library/busybox/blobs/DIGEST/",
	"/v2/wt/TOKEN/library/busybox/blobs/md5:" + strings.Repeat("0", 32), "/v2/wt/TOKEN/library/busybox/blobs/sha512:" + strings.Repeat("0", 64), "/v2/wt/TOKEN/library/busybox/blobs/uploads/",
	"/v2/_catalog", "/v2/_catalog?n=1000", "/v2/library/busybox/manifests/oci", "/v2/docker.io/library/busybox/manifests/oci", "/v2/127.0.0.1/a/manifests/b", "/v2/wt", "/v2/wt/", "/v2/wt/TOKEN", "/v2/wt/TOKEN/",
	"/wt", "/wt/", "/wt/TOKEN", "/wt//v2/", "/wt/TOKEN/x/v2/library/busybox/manifests/oci", "/wt/TOKEN/v2/..%2f..%2f..%2fkey", "/wt/TOKEN/v2/library/..%2f..%2fbusybox/manifests/oci",
	"/wt/TOKEN/v2//library/busybox/manifests/oci", "/wt/TOKEN/v2/v2/library/busybox/manifests/oci", "/wt/TOKEN/V2/library/busybox/manifests/oci", "/wt/TOKEN%2fv2/../v2/library/busybox/manifests/oci",
	"/", "/..", "/../../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/key", "/wt/TOKEN/../../key", "/index.html", "/debug/pprof/",
	"//v1alpha2/container", "/v1alpha2//container", "/v1alpha2/./container", "/v1alpha2/x/../container", "/v1alpha2/container/", "/V1alpha2/container", "/v1alpha2/container%00",
	"/v1alpha2/container/..%2f..%2fhealthz", "/v1alpha2/container/%2e%2e", "/v1alpha2/container/TOKEN/", "/v1alpha2/container/TOKEN/status/x", "/v1alpha2/container/TOKEN%2fstatus/status", "/v1alpha2/container/TOKEN/STATUS",
	"/container-token/..%2f..%2fkey", "/container-token/%00", "/container-token/TOKEN/..", "/container-token/TOKEN%2f", "/container-token/TOKEN%00", "/container-token/" + strings.Repeat("a", 60000),
	"/v1alpha1/builds/..%2f..%2fservice-info", "/v1alpha1/builds/%2e%2e/status", "/v1alpha1/builds/a/..%2f..", "/v1alpha1/scans/a%3fb=c", "/v1alpha1/mirrors/a%23b", "/v1alpha1/builds/%0d%0aX-Injected:%20yes",
}

// TestAttackPaths sends each path as it stands, without the cleaning that clients
// do. Each gets a plain refusal and causes no request to another server.
func TestAttackPaths(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	forward, d := newWitness(t, httptest.NewServer, http.NotFoundHandler()), newCanary(t)
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_API_BUILDS_FORWARD"] = forward.URL
	p := harness.StartProxy(t, "", settings)
	c := harness.Greeter(t)
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: c})
	wantStatus(t, "a build", harness.Do(t, http.MethodGet, p.URL+"/v1alpha1/builds/bd-1"), http.StatusNotFound)
	if len(forward.all()) != 1 {
		t.Error("a good id is not forwarded, so this test would not see that a bad one is")
	}
	fill := strings.NewReplacer("TOKEN", a.ContainerToken, "DIGEST", c.Layers[0].GzipDigest, "DOOR", d.Host).Replace
	send := func(method, target, host string, header ...string) harness.Response {
		return raw(t, p.Host, method+" "+fill(target)+" HTTP/1.1\r\nHost: "+host+"\r\nConnection: close\r\n"+strings.Join(header, "\r\n")+"\r\n\r\n")
	}
	good := "/v2/wt/TOKEN/library/busybox/manifests/oci"
	wantStatus(t, "the path without tricks", send("GET", good, p.Host), http.StatusOK)
	reg.Reset()
	for _, target := range trickyPaths {
		for _, method := range []string{"GET", "HEAD", "DELETE"} {
			wantCleanRefusal(t, fmt.Sprintf("%s %.200q", method, target), method, send(method, target, p.Host))
		}
	}
	// net/http itself refuses malformed requests, in plain text.
	for _, target := range []string{"/v2/wt/\x00", "/v2/wt/TOKEN/a b/manifests/c", "/v2/%zz", "/v2/%", "http://", "::", "", "*", "/v2/\x7f", "http://[::1/v2/"} {
		if r := send("GET", target, p.Host); r.Status < 400 || r.Status > 499 {
			t.Errorf("%q: status %d %.300q", target, r.Status, r.Body)
		}
	}
	// The server is no proxy for other servers.
	for _, target := range []string{"http://DOOR/", "http://DOOR/v2", "https://DOOR/", "DOOR", "ftp://DOOR/x", "http://user:password@DOOR/healthz/x", "//DOOR/", "http://DOOR/v2/_catalog"} {
		for _, method := range []string{"GET", "CONNECT", "POST", "OPTIONS", "TRACE", "PROPFIND"} {
			if r := send(method, target, d.Host); r.Header.Get("Location") != "" || strings.Contains(r.Body, "treasure") || r.Status >= 500 {
				t.Errorf("%s %s: %d %.300q", method, target, r.Status, r.Body)
			}
		}
	}
	// Another host outside the path changes nothing.
	for _, target := range []string{good, good + "?ns=docker.io", good + "?ns=DOOR", good + "?ns=http://DOOR/", good + "?ns=..%2f..&ns=DOOR", "http://DOOR" + good} {
		for _, host := range []string{p.Host, d.Host, "docker.io", "", "a/../b", "evil.example\\@x"} {
			r := send("GET", target, host, "X-Forwarded-Host: "+d.Host, "Forwarded: host="+d.Host, "X-Original-URL: /v2/_catalog", "X-Rewrite-Url: /healthz")
			if r.Status == http.StatusBadRequest && strings.ContainsAny(host, `/\`) {
				continue // net/http knows what a host is
			}
			if r.Status != http.StatusOK || harness.Sum([]byte(r.Body)) != a.TargetDigest || r.Header.Get("Location") != "" {
				t.Errorf("%s of host %q: %d %.300q", target, host, r.Status, r.Body)
			}
		}
	}
	body := `{"containerImage": "busybox:oci", "containerConfig": {"env": ["A=b"]}}`
	r := raw(t, p.Host, fmt.Sprintf("POST %s HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Host: %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", submission, d.Host, d.Host, len(body), body))
	// Without logins, a host that is not the server's is refused (TestAttackOtherPages).
	if got, err := r.Answer(); r.Status != http.StatusMisdirectedRequest && (err != nil || !strings.HasPrefix(got.TargetImage, p.Host+"/wt/")) {
		t.Errorf("a client's Host header made the image's name: %s", r.Body)
	}
	d.wantUntouched(t)
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("BREACH: the upstream was asked for %q", requests)
	}
	if told := forward.all(); len(told) != 0 {
		t.Errorf("BREACH: the server for builds was asked for %q", told)
	}
}

// wantCleanRefusal fails the test unless the answer is a 4xx in JSON, without a
// redirect, and without any part of the path in a header.
func wantCleanRefusal(t *testing.T, what, method string, r harness.Response) {
	t.Helper()
	if r.Status < 400 || r.Status > 499 {
		t.Errorf("%s: status %d, want 4xx: %.300q", what, r.Status, r.Body)
	}
	if r.Header.Get("Location") != "" || r.Header.Get("X-Injected") != "" || r.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%s: headers %v", what, r.Header)
	}
	if method != http.MethodHead && !json.Valid([]byte(r.Body)) {
		t.Errorf("%s: body %.300q", what, r.Body)
	}
}

// TestAttackNames uses the same tricks in the names of images, which become paths
// at upstream registries.
func TestAttackNames(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	reg.Reset()
	for _, name := range []string{
		"../busybox:oci", "library/../busybox:oci", "docker.io/../busybox", "library/busybox/..:oci", "library%2f..%2fbusybox:oci", "library//busybox:oci", "/library/busybox:oci", "library/busybox/:oci",
		"library/./busybox:oci", "LIBRARY", "library/BusyBox:oci", "library/busybox:oci\x00", "library/busy\x00box", "library/büsybox", "library/busybox:oci/../x", "library/busybox:../../x", "library/busybox@sha256:..", "library/busybox:oci?n=1",
		"library/busybox:oci#x", "library/busybox:oci\r\nX-Injected: yes", "library/busybox:o ci", strings.Repeat("a/", 300) + "b", strings.Repeat("a", 256), "library/busybox:" + strings.Repeat("t", 129), "docker.io:443@evil/library/busybox",
		"http://docker.io/library/busybox", "docker://busybox", "user:password@docker.io/library/busybox", "docker.io\\library\\busybox", "", " ", ":", "@", "library/busybox@", "library/busybox:",
	} {
		for _, r := range []harness.Response{
			p.Post(t, submission, map[string]any{"containerImage": name}),
			p.Post(t, submission, map[string]any{"containerImage": "busybox:oci", "containerIncludes": []string{name}}),
			p.Post(t, "/v1alpha1/inspect", map[string]any{"containerImage": name}),
			p.Post(t, submission, map[string]any{"containerImage": "busybox:oci", "containerConfig": layerAt("docker://docker.io/v2/" + name + "/blobs/sha256:" + strings.Repeat("0", 64))}),
		} {
			if r.Status != http.StatusBadRequest {
				t.Errorf("%.100q: status %d, want 400: %s", name, r.Status, r.Body)
			}
			if len(r.Body) > 2000 {
				t.Errorf("%.100q: a refusal of %d bytes", name, len(r.Body))
			}
		}
	}
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("BREACH: the upstream was asked for %q", requests)
	}
	wantAlive(t, p, "busybox:oci")
}
