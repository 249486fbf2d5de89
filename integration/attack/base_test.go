package attack

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// packed returns an archive, plain and compressed.
func packed(t *testing.T, entries ...tar.Header) (plain, compressed []byte) {
	t.Helper()
	var p, c bytes.Buffer
	w := tar.NewWriter(&p)
	for _, h := range entries {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(noise(h.Size)); err != nil {
			t.Fatal(err)
		}
	}
	z := gzip.NewWriter(&c)
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := z.Write(p.Bytes()); err != nil || z.Close() != nil {
		t.Fatal(err)
	}
	return p.Bytes(), c.Bytes()
}

// noise returns bytes that cannot be compressed.
func noise(n int64) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(b)
	return b
}

// baseOf serves an image of layers. Without their bytes, it answers HEAD for them all the same.
func baseOf(t *testing.T, has bool, layers ...[]tar.Header) http.HandlerFunc {
	t.Helper()
	blobs := map[string][]byte{}
	var diffIDs []string
	var list []described
	for _, entries := range layers {
		plain, compressed := packed(t, entries...)
		blobs[harness.Sum(compressed)] = compressed
		diffIDs = append(diffIDs, harness.Sum(plain))
		list = append(list, described{layerType, harness.Sum(compressed), len(compressed), nil})
	}
	config := harness.MustJSON(t, map[string]any{"architecture": "amd64", "os": "linux", "rootfs": map[string]any{"type": "layers", "diff_ids": diffIDs}})
	manifest := manifestOf(t, described{configType, harness.Sum(config), len(config), nil}, list...)
	return func(w http.ResponseWriter, r *http.Request) {
		name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
		switch blob, ok := blobs[name]; {
		case strings.Contains(r.URL.Path, "/manifests/"):
			w.Header().Set("Content-Type", manifestType)
			_, _ = w.Write(manifest)
		case name == harness.Sum(config):
			_, _ = w.Write(config)
		case ok && r.Method == http.MethodHead:
			w.Header().Set("Content-Length", fmt.Sprint(len(blob)))
		case ok && has:
			_, _ = w.Write(blob)
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}
}

// adding is a request that adds an inline layer to an image.
func adding(t *testing.T, image string, entries ...tar.Header) string {
	t.Helper()
	_, compressed := packed(t, entries...)
	return string(harness.MustJSON(t, map[string]any{"containerImage": image, "containerConfig": harness.Config{Layers: []harness.Layer{{Location: inlined(compressed)}}}}))
}

// TestAttackForeignIndex: a registry that vouches with HEAD for a layer that it never sent does
// not learn what the layer has, whoever sent it to the server: another registry, or another
// client in a request. No answer even tells whether the server knows the layer.
func TestAttackForeignIndex(t *testing.T) {
	secret := []tar.Header{
		{Name: "conf", Typeflag: tar.TypeSymlink, Linkname: "srv/secret"}, {Name: "srv/secret/", Typeflag: tar.TypeDir, Mode: 0o711, Uid: 4242},
		{Name: "noise", Typeflag: tar.TypeReg, Size: 400 << 10}, // so that its index is recorded
	}
	theirs, own := newHostile(t), newHostile(t)
	theirs.on("private", baseOf(t, true, secret))
	own.on("mine", baseOf(t, false, secret))
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES":     fmt.Sprintf("{%q: {plain_http: true}, %q: {plain_http: true}}", theirs.host(), own.host()),
		"WAVEPROXY_API_AUTH":       "bearer",
		"WAVEPROXY_API_TOKENS":     `{team-a: {token: "aaaaaaaaaaaaaaaaaaaaaaaa"}, team-b: {token: "bbbbbbbbbbbbbbbbbbbbbbbb"}}`,
		"WAVEPROXY_API_IDENTITIES": fmt.Sprintf("{team-a: {images: [%q]}, team-b: {images: [%q]}}", theirs.host()+"/*", own.host()+"/*"),
	})
	submit := func(token, body string) harness.Response {
		t.Helper()
		r, err := p.Call(t.Context(), http.MethodPost, submission, body, "Authorization", "Bearer "+strings.Repeat(token, 24))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	probe := func() string {
		t.Helper()
		r := submit("b", adding(t, own.host()+"/mine:x", tar.Header{Name: "conf/mine", Typeflag: tar.TypeReg}))
		if r.Status != http.StatusNotFound {
			t.Errorf("team-b: %d %s", r.Status, r.Body)
		}
		return r.Body
	}
	before := probe()
	for what, body := range map[string]string{
		"of its image": adding(t, theirs.host()+"/private:x", tar.Header{Name: "conf/theirs", Typeflag: tar.TypeReg}),
		"inline":       adding(t, theirs.host()+"/good:x", secret...),
	} {
		if r := submit("a", body); r.Status != http.StatusOK {
			t.Fatalf("team-a's layer, %s: %d %s", what, r.Status, r.Body)
		}
		if after := probe(); after != before {
			t.Errorf("after team-a's layer, %s: %s\nbefore: %s", what, after, before)
		}
	}
}
