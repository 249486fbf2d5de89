package recipes

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// withFiles returns the image with one more layer: text by name, "-> target" is a link.
func withFiles(t *testing.T, base v1.Image, files ...harness.File) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: 0o644, Typeflag: tar.TypeReg, Size: int64(len(f.Text))}
		if target, link := strings.CutPrefix(f.Text, "-> "); link {
			h.Typeflag, h.Linkname, h.Size, f.Text = tar.TypeSymlink, target, 0, ""
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, f.Text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(base, layer)
	if err != nil {
		t.Fatal(err)
	}
	return image
}

// TestCertificates: programs that engines start read bundles with the configuration's
// authority, in images of several families, by a recipe and by the command.
func TestCertificates(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker-multi")
	base, err := crane.Pull(reg.Host+"/library/busybox:docker-multi", crane.Insecure, crane.WithPlatform(&v1.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	path, _, _ := harness.SelfSigned(t)
	own, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	authority := string(own)
	authorities, err := os.ReadFile("../../internal/truststore/testdata/authorities.pem")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, append(authorities, authority...), 0o600); err != nil {
		t.Fatal(err)
	}
	const roots = "# the image's own\n"
	images := map[string]v1.Image{
		"debian": withFiles(t, base, harness.File{Name: "etc/ssl/certs/ca-certificates.crt", Text: roots}),
		"alpine": withFiles(t, base, harness.File{Name: "etc/ssl/certs/ca-certificates.crt", Text: roots}, harness.File{Name: "etc/ssl/cert.pem", Text: "-> certs/ca-certificates.crt"}),
		"redhat": withFiles(t, base, harness.File{Name: "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", Text: roots},
			harness.File{Name: "etc/pki/tls/certs/ca-bundle.crt", Text: "-> /etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem"}, harness.File{Name: "etc/ssl/certs", Text: "-> ../pki/tls/certs"}),
		"none": base,
	}
	for name, image := range images {
		if err := crane.Push(image, reg.Host+"/trust/"+name+":1", crane.Insecure); err != nil {
			t.Fatal(err)
		}
	}
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRIES": fmt.Sprintf("{docker.io: {url: %q}}", reg.URL),
		"WAVEPROXY_RECIPES":    fmt.Sprintf(`{corporate: {certificates: [%q]}}`, file),
	})
	bundle := map[string]string{"debian": "/etc/ssl/certs/ca-certificates.crt", "alpine": "/etc/ssl/cert.pem", "redhat": "/etc/pki/tls/certs/ca-bundle.crt", "none": "/etc/ssl/certs/ca-certificates.crt"}
	for name := range images {
		image := p.Host + "/wt/corporate/trust/" + name + ":1"
		for _, e := range engine.Available(t) {
			harness.MustPull(t, e, image)
			out := harness.MustRun(t, e, image, "/bin/sh", "-c",
				`cat "$0"; for c in /etc/ssl/certs/*.0; do cat "$c" >/dev/null && echo HASHED; done`, bundle[name])
			if !strings.Contains(out, strings.TrimSpace(authority)) || strings.Count(out, "BEGIN CERTIFICATE") != 4 || strings.Count(out, "HASHED") != 4 || (name != "none") != strings.HasPrefix(out, roots) {
				t.Errorf("%s in %s prints %s", name, e.Name(), out)
			}
		}
	}
	out, message, err := harness.Run(t, []string{"WAVEPROXY_SERVER=" + p.URL}, "augment", "trust/debian:1", "--certificate", file)
	if err != nil {
		t.Fatal(err, message)
	}
	direct := harness.Pull(t, strings.TrimSpace(out), "amd64")
	if files := harness.Files(t, direct); strings.Count(files["etc/ssl/certs/ca-certificates.crt"], "BEGIN CERTIFICATE") != 4 {
		t.Errorf("the command makes %q", files["etc/ssl/certs/ca-certificates.crt"])
	}
	named := harness.Pull(t, p.Host+"/wt/corporate/trust/debian:1", "amd64")
	a, errA := direct.ConfigName()
	b, errB := named.ConfigName()
	if errA != nil || errB != nil || a != b {
		t.Errorf("the recipe and the command make different images: %s and %s", a, b)
	}
}
