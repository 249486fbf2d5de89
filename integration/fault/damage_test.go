package fault

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// damages are what disks, and people, do to files: to the part of a file from here to
// there.
var damages = map[string]func(data []byte, from, to int) []byte{
	"truncated":   func(data []byte, from, to int) []byte { return data[:(from+to)/2] },
	"empty":       func([]byte, int, int) []byte { return nil },
	"flipped bit": func(data []byte, from, to int) []byte { data = slices.Clone(data); data[(from+to)/2] ^= 1; return data },
}

// TestDamage damages every kind of file in a store in every way. The server is
// restarted, and the same submission, or the same pull through a recipe, makes the
// image whole again. Before that, no damaged byte is served under its digest.
func TestDamage(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker")
	origin := http.NewServeMux()
	files := httptest.NewServer(origin)
	t.Cleanup(files.Close)
	for kind, part := range map[string]struct {
		files string
		bytes func(s stored) []byte // in the file; nil: all of it
	}{
		"manifest":       {"until/*/grants/*/*", func(s stored) []byte { return s.bytes[s.root] }},
		"config":         {"until/*/grants/*/*", func(s stored) []byte { return s.bytes[s.manifest.Config.Digest.String()] }},
		"injected layer": {"until/*/grants/*/*", func(s stored) []byte { return s.bytes[s.injected().Digest.String()] }},
		"shared layer":   {"blobs/sha256/*/*", nil},
		"layer record":   {"records/layers/*", nil},
		"grant":          {"until/*/grants/*/*", func(s stored) []byte { return s.bytes["grant"] }},
		"tag record":     {"records/named/*/tags/*", nil},
		"image record":   {"records/named/*/images/*", nil},
	} {
		for name, damage := range damages {
			t.Run(kind+"/"+name, func(t *testing.T) {
				env := harness.WithScripts(t, reg)
				env["WAVEPROXY_REGISTRIES"] = strings.TrimSuffix(env["WAVEPROXY_REGISTRIES"], "}") + `, ` + strings.TrimPrefix(files.URL, "http://") + `: {plain_http: true}}`
				layer := harness.LayerOf(t, harness.File{Name: "opt/added", Text: t.Name(), Mode: 0o644})
				path := "/" + harness.Sum([]byte(t.Name()))
				origin.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { w.Write(layer.Archive) })
				layer.Location = files.URL + path
				request := harness.Request{ContainerImage: "busybox:docker", ContainerConfig: &harness.Config{Layers: []harness.Layer{layer}}}
				p := harness.StartProxy(t, "", env)
				s := stored{}
				a := p.Augment(t, request)
				s.read(t, p, a)
				named, _ := harness.NamedManifest(t, p, "scripts/library/busybox", "docker")
				env["WAVEPROXY_HTTP_ADDR"] = p.Address(t) // provenance names the server
				p.Stop()
				found, err := filepath.Glob(filepath.Join(p.Dir, part.files))
				if len(found) == 0 {
					t.Fatal("there is no such file", err)
				}
				for _, file := range found {
					data, err := os.ReadFile(file)
					if err != nil {
						t.Fatal(err)
					}
					from, to := 0, len(data)
					if part.bytes != nil {
						from, to = s.find(t, data, part.bytes(s))
					}
					if err := os.WriteFile(file, damage(data, from, to), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				p = harness.StartProxy(t, p.Dir, env)
				wantSound(t, p, a, &s, false)
				if again := p.Augment(t, request); again.ContainerToken != a.ContainerToken {
					t.Errorf("another token: %s", again.TargetImage)
				}
				wantSound(t, p, a, &s, true)
				if root, _ := harness.NamedManifest(t, p, "scripts/library/busybox", "docker"); root != named {
					t.Errorf("the recipe's image is %s, was %s", root, named)
				}
			})
		}
	}
}

// stored is an image, and where the server keeps it.
type stored struct {
	root     string
	manifest ocispec.Manifest
	bytes    map[string][]byte // by digest
}

func (s *stored) injected() ocispec.Descriptor { return s.manifest.Layers[len(s.manifest.Layers)-1] }

// find returns where a blob is in a file that begins with the grant. Without a blob, it
// is where the grant is.
func (s *stored) find(t *testing.T, file, blob []byte) (from, to int) {
	t.Helper()
	if blob == nil {
		return 0, bytes.Index(file, s.bytes[s.root])
	}
	from = bytes.Index(file, blob)
	if from < 0 {
		t.Fatal("the file does not have the blob")
	}
	return from, from + len(blob)
}

func (s *stored) read(t *testing.T, p *harness.Proxy, a harness.Answer) {
	t.Helper()
	resp := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+a.ContainerToken+"/library/busybox/manifests/docker")
	if err := json.Unmarshal([]byte(resp.Body), &s.manifest); err != nil {
		t.Fatal(err)
	}
	s.root = harness.Sum([]byte(resp.Body))
	s.bytes = map[string][]byte{s.root: []byte(resp.Body)}
	for _, d := range []string{s.manifest.Config.Digest.String(), s.injected().Digest.String()} {
		s.bytes[d] = []byte(harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+a.ContainerToken+"/library/busybox/blobs/"+d).Body)
	}
}

// wantSound reads everything of the image that the server keeps. Bytes with another
// digest are always wrong; a refusal is, if the image is to be whole.
func wantSound(t *testing.T, p *harness.Proxy, a harness.Answer, s *stored, whole bool) {
	t.Helper()
	for path, digest := range map[string]string{
		"manifests/docker": s.root, "manifests/" + s.root: s.root,
		"blobs/" + s.manifest.Config.Digest.String(): s.manifest.Config.Digest.String(),
		"blobs/" + s.injected().Digest.String():      s.injected().Digest.String(),
	} {
		resp := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+a.ContainerToken+"/library/busybox/"+path)
		switch {
		case resp.Status == http.StatusOK && harness.Sum([]byte(resp.Body)) != digest:
			t.Errorf("%s: the bytes have the digest %s", path, harness.Sum([]byte(resp.Body)))
		case resp.Status != http.StatusOK && whole:
			t.Errorf("%s: status %d: %s", path, resp.Status, resp.Body)
		case resp.Status != http.StatusOK && !strings.Contains(resp.Body, "damaged"):
			t.Errorf("%s: the answer does not say what is wrong: %d %s", path, resp.Status, resp.Body)
		}
	}
}
