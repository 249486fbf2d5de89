package api

import (
	"bytes"
	"compress/zlib"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/registry"
)

// fakes record what reaches them. The real ones are tested with the binary.
type fakes struct {
	resolved []registry.ImageRequest
	inline   [][]byte
	remote   []string
	ready    error
}

func (f *fakes) Resolve(_ context.Context, req registry.ImageRequest) (auth.Grant, error) {
	f.resolved = append(f.resolved, req)
	return auth.Grant{Image: req.Ref.Name(), Tag: "latest", Base: digest.FromString("base"),
		Root: ocispec.Descriptor{Digest: digest.FromString("root")}}, nil
}

func (f *fakes) Inline(_ context.Context, _ blobstore.Store, data []byte, want registry.Expected) (augment.Layer, error) {
	f.inline = append(f.inline, data)
	return augment.Layer{Digest: want.Digest, Size: want.Size, DiffID: want.DiffID}, nil
}

func (f *fakes) Remote(_ context.Context, url string, _ registry.Expected) (augment.Layer, error) {
	f.remote = append(f.remote, url)
	return augment.Layer{}, nil
}

const token = auth.Token("abcdefghijklmnopqrstuvwxyz234567abcdefg")

func (f *fakes) Mint(_ context.Context, _ auth.Grant, ttl time.Duration) (auth.Token, time.Time, error) {
	return token, time.Date(2026, 1, 2, 3, 4, 0, 0, time.UTC).Add(ttl), nil
}

func (f *fakes) CheckTTL(time.Duration) error { return nil }

func newAPI() (*fakes, http.Handler) {
	f := &fakes{}
	return f, New(Options{Resolver: f, Layers: f, Tokens: f, Host: "proxy.test:9090", MaxBody: 1 << 20,
		Version: "1.37.0", Commit: "abc", Ready: func(context.Context) error { return f.ready }})
}

func call(h http.Handler, method, path, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// TestSubmitShape holds the answer to what Nextflow and the wave CLI read.
func TestSubmitShape(t *testing.T) {
	_, h := newAPI()
	w := call(h, "POST", "/v1alpha2/container", `{"containerImage": "ubuntu", "ttl": "1h"}`)
	var got map[string]any
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	for member, want := range map[string]any{
		"requestId": string(token), "containerToken": string(token), "succeeded": true, "freeze": false, "mirror": false,
		"targetImage": "proxy.test:9090/wt/" + string(token) + "/library/ubuntu:latest",
		"expiration":  "2026-01-02T04:04:00Z", "containerImage": "docker.io/library/ubuntu:latest",
		"sourceDigest": digest.FromString("base").String(), "targetDigest": digest.FromString("root").String(),
	} {
		if got[member] != want {
			t.Errorf("%s is %v, want %v", member, got[member], want)
		}
	}
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("status %d, content type %q", w.Code, w.Header().Get("Content-Type"))
	}
}

// TestSubmitAccepts: clients send nulls, empty objects, numbers as strings and
// members we do not know.
func TestSubmitAccepts(t *testing.T) {
	for name, test := range map[string]struct {
		body      string
		platforms string
		layers    int
	}{
		"all null":        {`{"containerImage":"a","containerConfig":{"entrypoint":null,"cmd":null,"env":null,"workingDir":null,"layers":null},"packages":null,"containerFile":null,"scanMode":null}`, "", 0},
		"config null":     {`{"containerImage":"a","containerConfig":null,"containerPlatform":null}`, "", 0},
		"unknown members": {`{"containerImage":"a","spackFile":"x","future":{"a":[1]},"towerWorkspaceId":42,"timestamp":"2026-11-23T08:02Z"}`, "", 0},
		"harmless":        {`{"containerImage":"a","scanMode":"async","nameStrategy":"none","buildRepository":"r","dryRun":true}`, "", 0},
		"size as string":  {`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA","gzipSize":"3","skipHashing":null}]}}`, "", 1},
		"platform lists":  {`{"containerImage":"a","containerPlatform":"x86_64,arm64v8, linux/arm/v7"}`, "linux/amd64 linux/arm64 linux/arm/v7", 0},
		"zlib":            {`{"containerImage":"a","containerConfig":{"layers":[{"location":"gzip:eJwrSKzMyU9MAQAL3QLr"}]}}`, "", 1},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			if w := call(h, "POST", "/v1alpha2/container", test.body, "Content-Type", "application/json; charset=utf-8"); w.Code != http.StatusOK {
				t.Fatalf("status %d: %s", w.Code, w.Body)
			}
			req := f.resolved[0]
			var platforms []string
			for _, p := range req.Platforms {
				platforms = append(platforms, augment.FormatPlatform(p))
			}
			if got := strings.Join(platforms, " "); got != test.platforms || len(req.Recipe.Layers) != test.layers {
				t.Errorf("platforms %q, %d layers; want %q, %d", got, len(req.Recipe.Layers), test.platforms, test.layers)
			}
			if test.layers == 0 && !req.Recipe.IsZero() {
				t.Errorf("recipe %+v, want none", req.Recipe)
			}
			if name == "zlib" && string(f.inline[0]) != "payload" {
				t.Errorf("layer %q, want the zlib stream's content", f.inline[0])
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	post := func(body string, header ...string) []string {
		return append([]string{"POST", "/v1alpha2/container", body}, header...)
	}
	for name, test := range map[string]struct {
		request []string
		status  int
		says    string
	}{
		"unknown path":      {[]string{"GET", "/v1alpha1/builds/x", ""}, 404, "/v1alpha1/builds/x"},
		"token in path":     {[]string{"GET", "/container-token/" + string(token), ""}, 404, "~"},
		"wrong method":      {[]string{"GET", "/v1alpha2/container", ""}, 405, "POST"},
		"post to health":    {[]string{"POST", "/healthz", ""}, 405, "GET"},
		"form":              {post("a=b", "Content-Type", "application/x-www-form-urlencoded"), 415, "application/json"},
		"array":             {post(`[]`), 400, "object"},
		"empty":             {post(``), 400, "JSON"},
		"boolean as string": {post(`{"containerImage":"a","freeze":"no"}`), 400, "freeze"},
		"negative size":     {post(`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA","gzipSize":-1}]}}`), 400, "gzipSize"},
		"includes":          {post(`{"containerImage":"a","containerIncludes":["b"]}`), 501, "containerIncludes"},
		"packages":          {post(`{"packages":{"type":"CONDA"}}`), 501, "packages"},
		"sif":               {post(`{"containerImage":"a","format":"sif"}`), 501, "sif"},
		"scan":              {post(`{"containerImage":"a","scanMode":"required"}`), 501, "scan"},
		"zlib bomb":         {post(`{"containerImage":"a","containerConfig":{"layers":[{"location":"gzip:` + zlibBomb(t) + `"}]}}`), 413, "api.max_body"},
		"not zlib":          {post(`{"containerImage":"a","containerConfig":{"layers":[{"location":"gzip:AAAA"}]}}`), 400, "zlib"},
		"too long a name":   {post(`{"containerImage":"` + strings.Repeat("a/", 110) + `a"}`), 400, "255"},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			w := call(h, test.request[0], test.request[1], test.request[2], test.request[3:]...)
			var body struct{ Message string }
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatalf("body %q: %v", w.Body, err)
			}
			if w.Code != test.status || !strings.Contains(body.Message, test.says) || strings.ContainsAny(body.Message, "\n\r") {
				t.Errorf("status %d, message %q; want %d and %q on one line", w.Code, body.Message, test.status, test.says)
			}
			if strings.Contains(body.Message, string(token)) {
				t.Error("the message holds a token")
			}
			if len(f.resolved) != 0 {
				t.Error("the request went on after it was refused")
			}
		})
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
	f.ready = errors.New("the storage directory cannot be read")
	if w := call(h, "GET", "/readyz", ""); w.Code != http.StatusServiceUnavailable || !strings.Contains(w.Body.String(), "storage") {
		t.Errorf("/readyz: %d %s", w.Code, w.Body)
	}
	if w := call(h, "GET", "/healthz", ""); w.Code != http.StatusOK {
		t.Errorf("/healthz of a server that is not ready: %d", w.Code)
	}
}

// zlibBomb is 4 MiB of zeros in a few KiB.
func zlibBomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}
