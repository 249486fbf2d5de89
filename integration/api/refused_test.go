package api

import (
	"archive/tar"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestRefusedSubmissions: the refusal names every problem of a request in one
// line, with the offending values, and changes nothing.
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
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{docker.io: {url: %q}, private.test: {url: %q}, closed.test: {url: "http://127.0.0.1:1"}, gone.test: {url: "https://gone.invalid"},`+
			` broken.test: {url: %q}, busy.test: {url: %q}, tls.test: {url: %q}, login.test: {url: %q, username: user, password: hunter2}}`,
		reg.URL, answering(401, "Www-Authenticate", `Basic realm="x"`), answering(500), answering(429, "Retry-After", "1"),
		untrusted.URL, answering(401, "Www-Authenticate", `Basic realm="x"`)),
		"WAVEPROXY_API_MAX_BODY": "256KiB"})
	good := harness.LayerOf(t, harness.File{Name: "a", Mode: 0o644, Text: "a"})
	with := func(l harness.Layer) harness.Request {
		return harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Layers: []harness.Layer{l}}}
	}
	edit := func(fn func(*harness.Layer)) harness.Request { l := good; fn(&l); return with(l) }
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
		"bad image":       {harness.Request{ContainerImage: "Busybox:latest"}, 400, []string{"Busybox:latest", "lowercase"}},
		"URL as image":    {harness.Request{ContainerImage: "docker://busybox"}, 400, []string{"docker://busybox"}},
		"long name":       {harness.Request{ContainerImage: strings.Repeat("a", 200) + ":x"}, 400, []string{"255", "characters"}},
		"bad env":         {harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Env: []string{"NOVALUE"}}}, 400, []string{"env[0]"}},
		"bad directory":   {harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{WorkingDir: "relative"}}, 400, []string{"relative"}},
		"bad platform":    {harness.Request{ContainerImage: "busybox:oci", ContainerPlatform: "linux/amd64/v1/x"}, 400, []string{"linux/amd64/v1/x"}},
		"lacks platform":  {harness.Request{ContainerImage: "busybox:multi", ContainerPlatform: "linux/s390x"}, 400, []string{"linux/s390x", "linux/amd64, linux/arm64"}},
		"other platform":  {harness.Request{ContainerImage: "busybox:oci", ContainerPlatform: "linux/arm64"}, 400, []string{"linux/arm64", "linux/amd64"}},
		"build":           {`{"containerFile": "RlJPTQ=="}`, 501, []string{"containerFile"}},
		"freeze":          {`{"containerImage": "busybox:oci", "freeze": true}`, 501, []string{"freeze"}},
		"bad ttl":         {`{"containerImage": "busybox:oci", "ttl": "forever"}`, 400, []string{"forever"}},
		"long ttl":        {`{"containerImage": "busybox:oci", "ttl": "9000h"}`, 400, []string{"9000h", "36h"}},

		"absent tag":        {harness.Request{ContainerImage: "busybox:none"}, 404, []string{"docker.io/library/busybox:none"}},
		"absent repository": {harness.Request{ContainerImage: "none/none"}, 404, []string{"none/none"}},
		"absent digest":     {harness.Request{ContainerImage: "busybox@" + zeros}, 404, []string{zeros}},
		"schema 1":          {harness.Request{ContainerImage: "schema1"}, 400, []string{"schema 1"}},
		"no credentials":    {harness.Request{ContainerImage: "private.test/a:b"}, 403, []string{"private.test", "credentials"}},
		"wrong credentials": {harness.Request{ContainerImage: "login.test/a:b"}, 403, []string{"login.test", "registries.login.test"}},
		"unreachable":       {harness.Request{ContainerImage: "closed.test/a:b"}, 502, []string{"closed.test", "refused"}},
		"unresolvable":      {harness.Request{ContainerImage: "gone.test/a:b"}, harness.UnresolvedStatus(), []string{"gone.invalid"}},
		"failing":           {harness.Request{ContainerImage: "broken.test/a:b"}, 502, []string{"broken.test", "500"}},
		"rate limited":      {harness.Request{ContainerImage: "busy.test/a:b"}, 429, []string{"busy.test"}},
		"untrusted":         {harness.Request{ContainerImage: "tls.test/a:b"}, 403, []string{"tls.test", "certificate"}},
		"private address":   {harness.Request{ContainerImage: unlisted.Host + "/library/busybox:oci"}, 403, []string{unlisted.Host, "registries"}},
		"metadata address":  {harness.Request{ContainerImage: "169.254.169.254/a:b"}, 403, []string{"169.254.169.254"}},
		"too many layers":   {harness.Request{ContainerImage: "busybox:layers126", ContainerConfig: &harness.Config{Layers: []harness.Layer{good}}}, 400, []string{"126", "125"}},

		"wrong digest":      {edit(func(l *harness.Layer) { l.GzipDigest = zeros }), 400, []string{"gzipDigest", zeros, good.GzipDigest}},
		"wrong size":        {edit(func(l *harness.Layer) { l.GzipSize++ }), 400, []string{"gzipSize", fmt.Sprint(good.GzipSize), fmt.Sprint(good.GzipSize + 1)}},
		"wrong diff ID":     {edit(func(l *harness.Layer) { l.TarDigest = zeros }), 400, []string{"tarDigest", zeros, good.TarDigest}},
		"malformed digest":  {edit(func(l *harness.Layer) { l.GzipDigest = "sha256:1" }), 400, []string{"gzipDigest", "sha256:1"}},
		"not base64":        {edit(func(l *harness.Layer) { l.Location = "data:%%%" }), 400, []string{"base64"}},
		"not a tar":         {with(harness.Layer{Location: "data:SEVMTE8="}), 400, []string{"tar"}},
		"empty layer":       {with(harness.Layer{Location: "data:"}), 400, []string{"empty"}},
		"unknown location":  {with(harness.Layer{Location: "ftp://example.org/x"}), 400, []string{"ftp://example.org/x"}},
		"leaves the root":   {with(harness.LayerOf(t, harness.File{Name: "/../etc/passwd", Text: "x"})), 400, []string{"/../etc/passwd"}},
		"path that leaves":  {with(harness.LayerOf(t, harness.File{Name: "a/../../etc/passwd", Text: "x"})), 400, []string{"a/../../etc/passwd"}},
		"device":            {with(harness.LayerOf(t, harness.File{Name: "dev/sda", Kind: tar.TypeBlock})), 400, []string{"dev/sda", "device"}},
		"layer at loopback": {with(harness.Layer{Location: unlisted.URL + "/l.tar.gz"}), 403, []string{unlisted.Host}},
	} {
		t.Run(name, func(t *testing.T) {
			before := harness.Stored(t, p.Dir)
			a := p.Submit(t, test.request)
			if a.Status != test.status {
				t.Errorf("status %d, want %d: %s", a.Status, test.status, a.Raw)
			}
			if a.Message == "" || strings.ContainsAny(a.Message, "\n\r") {
				t.Errorf("message %q, want one line", a.Message)
			}
			for _, want := range test.says {
				if !strings.Contains(a.Message, want) {
					t.Errorf("message %q does not say %q", a.Message, want)
				}
			}
			if after := harness.Stored(t, p.Dir); after != before {
				t.Errorf("the refused request left files in the storage:\n%s", after)
			}
		})
	}
	if requests := unlisted.Requests(); len(requests) != 0 {
		t.Errorf("an unlisted address got the requests %v", requests)
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
