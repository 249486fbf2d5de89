package integration

import (
	"archive/tar"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestRefusedSubmissions: everything wrong with a request is told at once, in
// one line with the offending value, and changes nothing.
func TestRefusedSubmissions(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.PushAll(t, reg.Host)
	unlisted := upstream.Registry(t)
	upstream.Push(t, unlisted.Host, "busybox:oci")
	unlisted.Reset()
	answering := func(status int, header ...string) string { return statusServer(t, status, header...) }
	untrusted := httptest.NewTLSServer(http.NotFoundHandler())
	untrusted.Config.ErrorLog = nil
	t.Cleanup(untrusted.Close)
	p := startProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{docker.io: {url: %q}, private.test: {url: %q}, closed.test: {url: "http://127.0.0.1:1"}, gone.test: {url: "https://gone.invalid"},`+
			` broken.test: {url: %q}, busy.test: {url: %q}, tls.test: {url: %q}, login.test: {url: %q, username: user, password: hunter2}}`,
		reg.URL, answering(401, "Www-Authenticate", `Basic realm="x"`), answering(500), answering(429, "Retry-After", "1"),
		untrusted.URL, answering(401, "Www-Authenticate", `Basic realm="x"`)),
		"WAVEPROXY_API_MAX_BODY": "256KiB"})
	good := layerOf(t, file{name: "a", mode: 0o644, text: "a"})
	with := func(l testLayer) request {
		return request{ContainerImage: "busybox:oci", ContainerConfig: &config{Layers: []testLayer{l}}}
	}
	edit := func(fn func(*testLayer)) request { l := good; fn(&l); return with(l) }
	zeros := "sha256:" + strings.Repeat("0", 64)
	for name, test := range map[string]struct {
		request any
		status  int
		says    []string
	}{
		"broken JSON":     {`{"containerImage": "busybox`, 400, []string{"not valid JSON"}},
		"text after JSON": {`{"containerImage": "busybox"} x`, 400, []string{"not valid JSON"}},
		"wrong type":      {`{"containerImage": ["busybox"]}`, 400, []string{"containerImage", "string"}},
		"wrong size type": {`{"containerImage": "busybox:oci", "containerConfig": {"layers": [{"location": "data:", "gzipSize": "big"}]}}`, 400, []string{"gzipSize", "big"}},
		"too big":         {`{"containerImage": "` + strings.Repeat("x", 300<<10) + `"}`, 413, []string{"262144 bytes", "api.max_body"}},
		"no image":        {`{}`, 400, []string{"containerImage"}},
		"bad image":       {request{ContainerImage: "Busybox:latest"}, 400, []string{"Busybox:latest", "lowercase"}},
		"URL as image":    {request{ContainerImage: "docker://busybox"}, 400, []string{"docker://busybox"}},
		"long name":       {request{ContainerImage: strings.Repeat("a", 200) + ":x"}, 400, []string{"255", "characters"}},
		"bad env":         {request{ContainerImage: "busybox:oci", ContainerConfig: &config{Env: []string{"NOVALUE"}}}, 400, []string{"NOVALUE"}},
		"bad directory":   {request{ContainerImage: "busybox:oci", ContainerConfig: &config{WorkingDir: "relative"}}, 400, []string{"relative"}},
		"bad platform":    {request{ContainerImage: "busybox:oci", ContainerPlatform: "linux/amd64/v1/x"}, 400, []string{"linux/amd64/v1/x"}},
		"lacks platform":  {request{ContainerImage: "busybox:multi", ContainerPlatform: "linux/s390x"}, 400, []string{"linux/s390x", "linux/amd64, linux/arm64"}},
		"other platform":  {request{ContainerImage: "busybox:oci", ContainerPlatform: "linux/arm64"}, 400, []string{"linux/arm64", "linux/amd64"}},
		"build":           {`{"containerFile": "RlJPTQ=="}`, 501, []string{"containerFile"}},
		"freeze":          {`{"containerImage": "busybox:oci", "freeze": true}`, 501, []string{"freeze"}},
		"bad ttl":         {`{"containerImage": "busybox:oci", "ttl": "forever"}`, 400, []string{"forever"}},
		"long ttl":        {`{"containerImage": "busybox:oci", "ttl": "9000h"}`, 400, []string{"9000h", "36h"}},

		"absent tag":        {request{ContainerImage: "busybox:none"}, 404, []string{"docker.io/library/busybox:none"}},
		"absent repository": {request{ContainerImage: "none/none"}, 404, []string{"none/none"}},
		"absent digest":     {request{ContainerImage: "busybox@" + zeros}, 404, []string{zeros}},
		"schema 1":          {request{ContainerImage: "schema1"}, 400, []string{"schema 1"}},
		"no credentials":    {request{ContainerImage: "private.test/a:b"}, 403, []string{"private.test", "credentials"}},
		"wrong credentials": {request{ContainerImage: "login.test/a:b"}, 403, []string{"login.test", "registries.login.test"}},
		"unreachable":       {request{ContainerImage: "closed.test/a:b"}, 502, []string{"closed.test", "refused"}},
		"unresolvable":      {request{ContainerImage: "gone.test/a:b"}, 502, []string{"gone.invalid"}},
		"failing":           {request{ContainerImage: "broken.test/a:b"}, 502, []string{"broken.test", "500"}},
		"rate limited":      {request{ContainerImage: "busy.test/a:b"}, 429, []string{"busy.test"}},
		"untrusted":         {request{ContainerImage: "tls.test/a:b"}, 502, []string{"tls.test", "certificate"}},
		"private address":   {request{ContainerImage: unlisted.Host + "/library/busybox:oci"}, 403, []string{unlisted.Host, "registries"}},
		"metadata address":  {request{ContainerImage: "169.254.169.254/a:b"}, 403, []string{"169.254.169.254"}},
		"too many layers":   {request{ContainerImage: "busybox:layers126", ContainerConfig: &config{Layers: []testLayer{good}}}, 400, []string{"126", "125"}},

		"wrong digest":      {edit(func(l *testLayer) { l.GzipDigest = zeros }), 400, []string{"gzipDigest", zeros, good.GzipDigest}},
		"wrong size":        {edit(func(l *testLayer) { l.GzipSize++ }), 400, []string{"gzipSize", fmt.Sprint(good.GzipSize), fmt.Sprint(good.GzipSize + 1)}},
		"wrong diff ID":     {edit(func(l *testLayer) { l.TarDigest = zeros }), 400, []string{"tarDigest", zeros, good.TarDigest}},
		"malformed digest":  {edit(func(l *testLayer) { l.GzipDigest = "sha256:1" }), 400, []string{"gzipDigest", "sha256:1"}},
		"not base64":        {edit(func(l *testLayer) { l.Location = "data:%%%" }), 400, []string{"base64"}},
		"not a tar":         {with(testLayer{Location: "data:SEVMTE8="}), 400, []string{"tar"}},
		"empty layer":       {with(testLayer{Location: "data:"}), 400, []string{"empty"}},
		"unknown location":  {with(testLayer{Location: "ftp://example.org/x"}), 400, []string{"ftp://example.org/x"}},
		"absolute path":     {with(layerOf(t, file{name: "/etc/passwd", text: "x"})), 400, []string{"/etc/passwd", "absolute"}},
		"path that leaves":  {with(layerOf(t, file{name: "a/../../etc/passwd", text: "x"})), 400, []string{"a/../../etc/passwd"}},
		"device":            {with(layerOf(t, file{name: "dev/sda", kind: tar.TypeBlock})), 400, []string{"dev/sda", "device"}},
		"layer at loopback": {with(testLayer{Location: unlisted.URL + "/l.tar.gz"}), 403, []string{unlisted.Host}},
	} {
		t.Run(name, func(t *testing.T) {
			before := stored(t, p.Dir)
			a := p.submit(t, test.request)
			if a.status != test.status {
				t.Errorf("status %d, want %d: %s", a.status, test.status, a.raw)
			}
			if a.Message == "" || strings.ContainsAny(a.Message, "\n\r") {
				t.Errorf("message %q, want one line", a.Message)
			}
			for _, want := range test.says {
				if !strings.Contains(a.Message, want) {
					t.Errorf("message %q does not say %q", a.Message, want)
				}
			}
			if after := stored(t, p.Dir); after != before {
				t.Errorf("the refused request stored something:\n%s", after)
			}
		})
	}
	if requests := unlisted.Requests(); len(requests) != 0 {
		t.Errorf("an unlisted address was asked: %v", requests)
	}
	if strings.Contains(p.Log.String(), "hunter2") {
		t.Error("the log holds a password")
	}
}

// statusServer answers everything with one status.
func statusServer(t *testing.T, status int, header ...string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(header); i += 2 {
			w.Header().Set(header[i], header[i+1])
		}
		w.WriteHeader(status)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// stored lists the files of the storage directory.
func stored(t *testing.T, dir string) string {
	t.Helper()
	var names strings.Builder
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			names.WriteString(path + "\n")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names.String()
}

// TestRefusedPulls: whatever is not the token's image is refused, in the OCI
// error format, with statuses that make engines show the message.
func TestRefusedPulls(t *testing.T) {
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:oci", "busybox:entry")
	p := startProxy(t, "", hub(reg.URL))
	a := p.augment(t, request{ContainerImage: "busybox:oci", ContainerConfig: greeter(t)})
	secret := layerOf(t, file{name: "secret", mode: 0o600, text: "of another tenant"})
	other := p.augment(t, request{ContainerImage: "busybox:entry", ContainerConfig: &config{Layers: []testLayer{secret}}})
	token := a.ContainerToken
	flipped := flip(token)
	base := "/v2/wt/" + token + "/library/busybox"
	reg.Reset()
	for name, test := range map[string]struct {
		path   string
		status int
		code   string
		says   string
	}{
		"no token":           {"/v2/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"catalog":            {"/v2/_catalog", 404, "NAME_UNKNOWN", ""},
		"not a token":        {"/v2/wt/nonsense/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"forged token":       {"/v2/wt/" + flipped + "/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"truncated token":    {"/v2/wt/" + token[:38] + "/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"uppercase token":    {"/v2/wt/" + strings.ToUpper(token) + "/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
		"other image":        {"/v2/wt/" + token + "/library/alpine/manifests/oci", 403, "DENIED", "library/busybox"},
		"other tag":          {base + "/manifests/entry", 404, "MANIFEST_UNKNOWN", "busybox:oci"},
		"other manifest":     {base + "/manifests/" + digests["busybox:entry"].String(), 404, "MANIFEST_UNKNOWN", ""},
		"other augmented":    {base + "/manifests/" + other.TargetDigest, 404, "MANIFEST_UNKNOWN", ""},
		"base manifest":      {base + "/manifests/" + a.SourceDigest, 403, "DENIED", "augments"},
		"foreign layer":      {base + "/blobs/" + secret.GzipDigest, 404, "BLOB_UNKNOWN", ""},
		"manifest as blob":   {base + "/blobs/" + a.TargetDigest, 404, "BLOB_UNKNOWN", ""},
		"traversal":          {"/v2/wt/" + token + "/library/..%2f..%2fbusybox/manifests/oci", 404, "NAME_UNKNOWN", ""},
		"double slash":       {"/v2/wt/" + token + "//busybox/manifests/oci", 404, "NAME_UNKNOWN", ""},
		"uploads":            {base + "/blobs/uploads/", 404, "NAME_UNKNOWN", ""},
		"mirror form forged": {"/wt/" + flipped + "/v2/library/busybox/manifests/oci", 404, "NAME_UNKNOWN", "token"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			t.Run(name+" "+method, func(t *testing.T) {
				resp := do(t, method, p.URL+test.path)
				body := resp.body
				if resp.status != test.status {
					t.Errorf("status %d, want %d: %s", resp.status, test.status, body)
				}
				if ct := resp.header.Get("Content-Type"); ct != "application/json" {
					t.Errorf("content type %q", ct)
				}
				if method == http.MethodHead {
					return
				}
				if !strings.HasPrefix(body, `{"errors":[{"code":"`+test.code+`","message":"`) || !strings.Contains(body, test.says) {
					t.Errorf("body %s, want code %s and %q", body, test.code, test.says)
				}
			})
		}
	}
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		resp := do(t, method, p.URL+base+"/manifests/oci")
		if resp.status != http.StatusMethodNotAllowed || !strings.Contains(resp.body, "UNSUPPORTED") || resp.header.Get("Allow") != "GET, HEAD" {
			t.Errorf("%s: %d %s", method, resp.status, resp.body)
		}
	}
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("refused pulls reached the upstream: %v", requests)
	}
	if strings.Contains(p.Log.String(), token) {
		t.Error("the log holds a token")
	}
}

// flip changes one bit of a token, in its MAC.
func flip(token string) string {
	b := []byte(token)
	if b[30]++; b[30] > 'z' || (b[30] > '7' && b[30] < 'a') {
		b[30] = 'b'
	}
	return string(b)
}

type response struct {
	status int
	header http.Header
	body   string
}

// do sends a request with the path as it stands, which http.NewRequest would
// clean.
func do(t *testing.T, method, url string, header ...string) response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response{resp.StatusCode, resp.Header, string(body)}
}
