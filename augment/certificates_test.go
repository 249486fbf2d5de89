package augment

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waveproxy/waveproxy/internal/truststore"
)

// trusted are the certificates of the tests, in PEM.
func trusted(t *testing.T) (texts []string, certificates []truststore.Certificate) {
	t.Helper()
	text, err := os.ReadFile("../internal/truststore/testdata/authorities.pem")
	if err != nil {
		t.Fatal(err)
	}
	if certificates, err = truststore.Parse(text); err != nil {
		t.Fatal(err)
	}
	for _, c := range certificates {
		texts = append(texts, string(c.PEM()))
	}
	return texts, certificates
}

// lastLayer returns the entries of the uppermost layer of an image.
func (m *memory) lastLayer(t *testing.T, img *Image) map[string]*tar.Header {
	t.Helper()
	refs, err := img.object(t, img.Root.Digest).References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(m.archives[refs.Layers[len(refs.Layers)-1].Digest]))
	if err != nil {
		t.Fatal(err)
	}
	entries := map[string]*tar.Header{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if err == io.EOF {
			return entries
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		h.Uname = string(text) // a place that nothing else uses
		entries[h.Name] = h
	}
}

// TestCertificates: certificates are added to the bundles that an image has, wherever its
// layers and links have them, and to those of layers that the recipe adds.
func TestCertificates(t *testing.T) {
	texts, certificates := trusted(t)
	one, name := texts[0], certificates[0].Name
	const roots = "# roots\n"
	jks, err := os.ReadFile("../internal/truststore/testdata/one.jks")
	if err != nil {
		t.Fatal(err)
	}
	debian := "usr/local/share/ca-certificates/" + name + ".crt"
	hashed := func(dir string, n string) map[string]string {
		return map[string]string{dir + "/" + name + ".pem": "-> /" + debian, dir + "/430f8f96." + n: "-> " + name + ".pem"}
	}
	for test, is := range map[string]struct {
		base  [][]file
		added [][]file
		want  map[string]string // beside the anchor; nil values are hashed
		hash  map[string]string
	}{
		"Debian": {base: [][]file{{dir("etc/ssl/certs/"), {name: "etc/ssl/certs/ca-certificates.crt", text: roots, mode: 0o644}}},
			want: map[string]string{"etc/ssl/certs/ca-certificates.crt": roots + one}, hash: hashed("etc/ssl/certs", "0")},
		"Alpine": {base: [][]file{{dir("etc/ssl/certs/"), {name: "etc/ssl/certs/ca-certificates.crt", text: roots, mode: 0o644}, link("etc/ssl/cert.pem", "certs/ca-certificates.crt")}},
			want: map[string]string{"etc/ssl/certs/ca-certificates.crt": roots + one}, hash: hashed("etc/ssl/certs", "0")},
		"an upper layer": {base: [][]file{{{name: "etc/ssl/certs/ca-certificates.crt", text: "old"}}, {{name: "etc/ssl/certs/ca-certificates.crt", text: "new", mode: 0o600}}, {{name: "x"}}},
			want: map[string]string{"etc/ssl/certs/ca-certificates.crt": "new\n" + one}, hash: hashed("etc/ssl/certs", "0")},
		"a link above it": {base: [][]file{{dir("data/certs/"), {name: "data/certs/ca-certificates.crt", text: roots}}, {link("etc/ssl", "/data")}},
			want: map[string]string{"data/certs/ca-certificates.crt": roots + one}, hash: hashed("data/certs", "0")},
		"removed": {base: [][]file{{{name: "etc/ssl/certs/ca-certificates.crt", text: roots}}, {{name: "etc/ssl/certs/.wh.ca-certificates.crt"}}},
			want: map[string]string{"etc/ssl/certs/ca-certificates.crt": one}, hash: hashed("etc/ssl/certs", "0")},
		"a link to the root": {base: [][]file{{link("etc/ssl/certs", "/"), {name: "ca-certificates.crt", text: roots}}},
			want: map[string]string{"ca-certificates.crt": roots + one, name + ".pem": "-> /" + debian, "430f8f96.0": "-> " + name + ".pem"}},
		"two bundles": {base: [][]file{{{name: "etc/ssl/cert.pem", text: "a\n"}}, {{name: "etc/ssl/ca-bundle.pem", text: "b\n"}}},
			want: map[string]string{"etc/ssl/cert.pem": "a\n" + one, "etc/ssl/ca-bundle.pem": "b\n" + one}},
		"a hard link": {base: [][]file{{{name: "usr/share/roots", text: roots}, {name: "etc/ssl/cert.pem", kind: tar.TypeLink, link: "usr/share/roots"}}},
			want: map[string]string{"etc/ssl/cert.pem": roots + one}},
		"a hash that is taken": {base: [][]file{{{name: "etc/ssl/certs/ca-certificates.crt"}, {name: "etc/ssl/certs/430f8f96.0", text: "x"}}},
			want: map[string]string{"etc/ssl/certs/ca-certificates.crt": one}, hash: hashed("etc/ssl/certs", "1")},
		"a circle": {base: [][]file{{link("etc/ssl/cert.pem", "cert.pem"), {name: "etc/ssl/ca-bundle.pem", text: "b\n"}}},
			want: map[string]string{"etc/ssl/ca-bundle.pem": "b\n" + one}},
		"none":            {base: [][]file{{{name: "bin/app"}}}, want: map[string]string{"etc/ssl/certs/ca-certificates.crt": one}, hash: hashed("etc/ssl/certs", "0")},
		"a dangling link": {base: [][]file{{link("etc/ssl/certs", "/usr/certs")}}, want: map[string]string{"usr/certs/ca-certificates.crt": one}, hash: hashed("usr/certs", "0")},
		"an added layer": {base: [][]file{{{name: "etc/ssl/cert.pem", text: "a\n"}}}, added: [][]file{{{name: "etc/ssl/cert.pem", text: "ours\n"}}, {{name: "bin/x"}}},
			want: map[string]string{"etc/ssl/cert.pem": "ours\n" + one}},
		"Java": {base: [][]file{{{name: "etc/ssl/cert.pem"}, {name: "opt/jdk/lib/security/cacerts", text: string(jks)}, link("etc/ssl/certs/java/cacerts", "/opt/jdk/lib/security/cacerts")}},
			want: map[string]string{"etc/ssl/cert.pem": one}, hash: hashed("etc/ssl/certs", "0")}, // it has this one
	} {
		t.Run(test, func(t *testing.T) {
			m := newMemory()
			m.stacked("1", "linux", is.base...)
			recipe := Recipe{Certificates: texts[:1]}
			for _, files := range is.added {
				recipe.Layers = append(recipe.Layers, m.layer(archive(files...)))
			}
			img := mustApply(t, m, "1", recipe, "")
			got := map[string]string{}
			for name, h := range m.lastLayer(t, img) {
				if h.Typeflag == tar.TypeDir {
					continue
				}
				if got[name] = h.Uname; h.Typeflag == tar.TypeSymlink {
					got[name] = "-> " + h.Linkname
				}
			}
			want := map[string]string{debian: one}
			maps.Copy(want, is.want)
			maps.Copy(want, is.hash)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if again := mustApply(t, m, "1", recipe, ""); again.Root.Digest != img.Root.Digest {
				t.Error("a second time it is another image")
			}
			fresh := newMemory()
			fresh.stacked("1", "linux", is.base...)
			for _, files := range is.added {
				fresh.layer(archive(files...))
			}
			if other := mustApply(t, fresh, "1", recipe, ""); other.Root.Digest != img.Root.Digest {
				t.Error("another server makes another image")
			}
		})
	}
}

// TestCertificatesByFamily: each family's tool finds the certificate when it makes the
// bundle anew.
func TestCertificatesByFamily(t *testing.T) {
	texts, certificates := trusted(t)
	name := certificates[1].Name
	for dirName, want := range map[string]string{
		"etc/pki/ca-trust/":                     "etc/pki/ca-trust/source/anchors/" + name + ".pem",
		"etc/pki/trust/":                        "etc/pki/trust/anchors/" + name + ".pem",
		"etc/ca-certificates/trust-source/":     "etc/ca-certificates/trust-source/anchors/" + name + ".crt",
		"usr/local/share/ca-certificates/more/": "usr/local/share/ca-certificates/" + name + ".crt",
	} {
		m := newMemory()
		m.stacked("1", "linux", []file{dir(dirName)})
		if got := m.lastLayer(t, mustApply(t, m, "1", Recipe{Certificates: texts[1:2]}, "")); got[want] == nil || got[want].Uname != texts[1] {
			t.Errorf("%s: %q", dirName, slices.Collect(maps.Keys(got)))
		}
	}
}

// TestCertificatesKeepAttributes: a bundle keeps its mode, owner, time and attributes, and
// Java's store what it had.
func TestCertificatesKeepAttributes(t *testing.T) {
	texts, certificates := trusted(t)
	jks, err := os.ReadFile("../internal/truststore/testdata/one.jks")
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range map[string]string{"etc/ssl/cert.pem": "roots\n", "opt/java/lib/security/cacerts": string(jks)} {
		h := &tar.Header{
			Name: name, Typeflag: tar.TypeReg, Mode: 0o4640, Uid: 7, Gid: 8, Size: int64(len(text)), ModTime: time.Unix(1700000000, 0),
			PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"},
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	m := newMemory()
	m.stacked("1", "linux", nil)
	img := mustApply(t, m, "1", Recipe{Certificates: texts, Layers: []Layer{m.layer(gzipOf(b.Bytes()))}}, "")
	entries := m.lastLayer(t, img)
	for _, name := range []string{"etc/ssl/cert.pem", "opt/java/lib/security/cacerts"} {
		h := entries[name]
		if h == nil || h.Mode != 0o4640 || h.Uid != 7 || h.Gid != 8 || h.ModTime.Unix() != 1700000000 || h.PAXRecords["SCHILY.xattr.user.a"] != "b" {
			t.Errorf("%s: %+v", name, h)
		}
	}
	for _, c := range certificates {
		if n := strings.Count(entries["opt/java/lib/security/cacerts"].Uname, string(c.Raw)); n != 1 {
			t.Errorf("Java's store has %s %d times", c.Name, n)
		}
	}
}

// TestCertificatesRefused: what cannot be extended is named.
func TestCertificatesRefused(t *testing.T) {
	texts, _ := trusted(t)
	other, err := os.ReadFile("../internal/truststore/testdata/other.p12")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		os   string
		base []file
		says string
	}{
		"large":       {"linux", []file{{name: "etc/ssl/cert.pem", text: strings.Repeat("x", 4<<20+1)}}, `has "etc/ssl/cert.pem" with 4194305 bytes`},
		"password":    {"linux", []file{{name: "opt/jre/lib/security/cacerts", text: string(other)}}, `cannot be added to "/opt/jre/lib/security/cacerts", which is damaged, or has another password than changeit`},
		"not a store": {"linux", []file{{name: "etc/ssl/certs/java/cacerts", text: "x"}}, "which is not a Java key store"},
		"a directory": {"linux", []file{dir("etc/ssl/certs/ca-certificates.crt/")}, `"/etc/ssl/certs/ca-certificates.crt", which is a directory`},
		"a link away": {"linux", []file{{name: "etc/ssl/cert.pem", kind: tar.TypeLink, link: "elsewhere"}}, `"/etc/ssl/cert.pem", which is a hard link to a file that is not in its layer`},
		"many":        {"linux", manyStores(33), "has 33 files of trusted certificates"},
		"very many":   {"linux", manyStores(1025), "has 129 files of trusted certificates"},
		"Windows":     {"windows", []file{{name: "etc/ssl/cert.pem"}}, "none of the platforms"},
	} {
		m := newMemory()
		m.stacked("1", test.os, test.base)
		if err := func() error { _, err := apply(t, m, "1", Recipe{Certificates: texts}, ""); return err }(); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range [][]string{{"x"}, {texts[0], "-----BEGIN PRIVATE KEY-----\naA==\n-----END PRIVATE KEY-----\n"}, {texts[0][:80]}} {
		if err := (Recipe{Certificates: bad}).Validate(); err == nil || !strings.Contains(err.Error(), "certificates: ") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func manyStores(n int) (files []file) {
	for i := range n {
		files = append(files, file{name: fmt.Sprintf("opt/%d/lib/security/cacerts", i)})
	}
	return files
}

// TestCertificatesOnce: an image that was augmented, and is the base now, gets nothing twice.
func TestCertificatesOnce(t *testing.T) {
	texts, _ := trusted(t)
	m := newMemory()
	m.stacked("1", "linux", []file{{name: "etc/ssl/certs/ca-certificates.crt", text: "roots\n"}})
	once := mustApply(t, m, "1", Recipe{Certificates: texts}, "")
	for _, o := range once.Objects {
		m.objects[o.Digest.String()] = o
	}
	twice := mustApply(t, m, once.Root.Digest.String(), Recipe{Certificates: texts}, "")
	for name := range m.lastLayer(t, twice) {
		if !strings.HasPrefix(name, "usr/local/share/ca-certificates/") {
			t.Errorf("%s is added again", name)
		}
	}
}

// TestCertificatesAddUp: recipes upon one another give one layer with all certificates.
func TestCertificatesAddUp(t *testing.T) {
	texts, _ := trusted(t)
	below, own := Recipe{Certificates: texts[:2]}, Recipe{Certificates: texts[1:]}
	if got := own.Upon(below); !slices.Equal(got.Certificates, texts) || got.Below != nil {
		t.Errorf("%d certificates, below %v", len(got.Certificates), got.Below)
	}
	if got := own.Upon(own); !got.Equal(own) || own.Equal(below) || own.IsZero() {
		t.Error("a recipe upon itself is another one")
	}
}
