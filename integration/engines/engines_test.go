package engines

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestEngines runs augmented images in every container engine of this machine.
// The injected program must run with the recipe's environment, and the rest must
// be the same as in the base image.
func TestEngines(t *testing.T) {
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel()
			// A registry and a server for each engine, because their requests are counted.
			reg := upstream.Registry(t)
			digests := upstream.PushAll(t, reg.Host)
			p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
			for _, kind := range harness.BaseImages {
				if kind == "busybox:zstd" && e.Name() == "docker" {
					continue // Docker's own store cannot unpack zstd, with or without this server
				}
				t.Run(kind, func(t *testing.T) { runGreeter(t, e, p, kind) })
			}
			t.Run("base is untouched", func(t *testing.T) { runUnchanged(t, e, p, reg) })
			t.Run("pinned by digest", func(t *testing.T) {
				runGreeter(t, e, p, "busybox@"+digests["busybox:docker-multi"].String())
			})
			t.Run("usrmerge", func(t *testing.T) { runUsrMerge(t, e, p) })
			t.Run("absolute names", func(t *testing.T) { runAbsolute(t, e, p) })
			t.Run("many layers", func(t *testing.T) { runManyLayers(t, e, p) })
			t.Run("second pull", func(t *testing.T) { pullTwice(t, e, p, reg) })
		})
	}
}

func runGreeter(t *testing.T, e engine.Engine, p *harness.Proxy, kind string) {
	a := p.Augment(t, harness.Request{ContainerImage: kind, ContainerConfig: harness.Greeter(t)})
	harness.MustPull(t, e, a.TargetImage)
	if out := harness.MustRun(t, e, a.TargetImage); out != harness.Greeting {
		t.Errorf("printed %q, want %q", out, harness.Greeting)
	}
	if out := harness.MustRun(t, e, a.TargetImage, "my", "args"); out != "hello /opt/greet my args\n" {
		t.Errorf("with arguments: %q", out)
	}
}

// runUnchanged adds a file and nothing else. The image must start like its base.
func runUnchanged(t *testing.T, e engine.Engine, p *harness.Proxy, reg *upstream.Server) {
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:entry", ContainerConfig: &harness.Config{
		Layers: []harness.Layer{harness.LayerOf(t, harness.File{Name: "srv/added", Mode: 0o644, Text: "added\n"})},
	}})
	base := reg.Host + "/library/busybox:entry"
	harness.MustPull(t, e, base)
	harness.MustPull(t, e, a.TargetImage)
	want, got := harness.MustRun(t, e, base), harness.MustRun(t, e, a.TargetImage)
	if got != want || want == "" {
		t.Errorf("the augmented image prints %q, its base %q", got, want)
	}
}

// runUsrMerge injects bin/hello into an image where /bin is a link.
func runUsrMerge(t *testing.T, e engine.Engine, p *harness.Proxy) {
	a := p.Augment(t, harness.Request{ContainerImage: "usrmerge", ContainerConfig: &harness.Config{
		Cmd: []string{"/bin/sh", "-c", "/bin/hello && /usr/bin/hello && ls -ld /bin | cut -c1"},
		Layers: []harness.Layer{harness.LayerOf(t,
			harness.File{Name: "bin/", Kind: tar.TypeDir, Mode: 0o755},
			harness.File{Name: "bin/hello", Mode: 0o755, Text: "#!/bin/sh\necho hello from $0\n"},
		)},
	}})
	harness.MustPull(t, e, a.TargetImage)
	if out := harness.MustRun(t, e, a.TargetImage); out != "hello from /bin/hello\nhello from /usr/bin/hello\nl\n" {
		t.Errorf("printed %q", out)
	}
}

// runAbsolute injects names that begin with slashes: a layer that stays as it is, and one
// of which an entry is below a link of the base.
func runAbsolute(t *testing.T, e engine.Engine, p *harness.Proxy) {
	for _, extra := range []string{"/srv/", "//bin/"} {
		a := p.Augment(t, harness.Request{ContainerImage: "usrmerge", ContainerConfig: &harness.Config{
			Cmd: []string{"/bin/sh", "-c", "/opt/abs/two && /opt/abs/three && ls " + extra + "more && ls -ld /bin | cut -c1"},
			Layers: []harness.Layer{harness.LayerOf(t,
				harness.File{Name: "/", Kind: tar.TypeDir, Mode: 0o755},
				harness.File{Name: "/opt/abs/one", Mode: 0o755, Text: "#!/bin/sh\necho hello from $0\n"},
				harness.File{Name: "/opt/abs/two", Kind: tar.TypeLink, Mode: 0o755, Link: "/opt/abs/one"},
				harness.File{Name: "./opt//abs/./three", Kind: tar.TypeLink, Mode: 0o755, Link: "//opt/abs//one"},
				harness.File{Name: extra + "more", Mode: 0o755},
			)},
		}})
		harness.MustPull(t, e, a.TargetImage)
		want := "hello from /opt/abs/two\nhello from /opt/abs/three\n" + extra + "more\nl\n"
		if out := harness.MustRun(t, e, a.TargetImage); out != want {
			t.Errorf("printed %q, want %q", out, want)
		}
	}
}

// runManyLayers injects three layers into an image that has room for one more.
func runManyLayers(t *testing.T, e engine.Engine, p *harness.Proxy) {
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:layers124", ContainerConfig: &harness.Config{
		Cmd: []string{"/bin/sh", "-c", "cat /one /two /three"},
		Layers: []harness.Layer{
			harness.LayerOf(t, harness.File{Name: "one", Mode: 0o644, Text: "1"}, harness.File{Name: "two", Mode: 0o644, Text: "wrong"}),
			harness.LayerOf(t, harness.File{Name: "two", Mode: 0o644, Text: "2"}),
			harness.LayerOf(t, harness.File{Name: "three", Mode: 0o644, Text: "3"}),
		},
	}})
	harness.MustPull(t, e, a.TargetImage)
	if out := harness.MustRun(t, e, a.TargetImage); out != "123" {
		t.Errorf("printed %q, want 123", out)
	}
}

// pullTwice counts blobs: the second pull of a name downloads nothing.
func pullTwice(t *testing.T, e engine.Engine, p *harness.Proxy, reg *upstream.Server) {
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Env: []string{"ENGINE=" + e.Name()}}})
	harness.MustPull(t, e, a.TargetImage)
	reg.Reset()
	before := len(p.Log.String())
	harness.MustPull(t, e, a.TargetImage)
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("the second pull requested %v from the upstream", requests)
	}
	log := p.Log.String()[before:]
	for line := range strings.Lines(log) {
		if e.Name() != "podman" && strings.Contains(line, `"method":"GET"`) && strings.Contains(line, "/blobs/") {
			t.Errorf("the second pull fetched a blob: %s", line)
		}
	}
}

// TestSkopeo copies by tag and by digest to a directory, with the strictest of
// the clients.
func TestSkopeo(t *testing.T) {
	copier, ok := engine.FindSkopeo(t)
	if !ok {
		return
	}
	reg := upstream.Registry(t)
	upstream.PushAll(t, reg.Host)
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	for _, kind := range harness.BaseImages {
		t.Run(kind, func(t *testing.T) {
			a := p.Augment(t, harness.Request{ContainerImage: kind, ContainerConfig: harness.Greeter(t)})
			byTag, err := copier.Copy(t.Context(), a.TargetImage)
			if err != nil {
				t.Fatal(err)
			}
			tagless := a.TargetImage[:strings.LastIndexByte(a.TargetImage, ':')]
			byDigest, err := copier.Copy(t.Context(), tagless+"@"+a.TargetDigest)
			if err != nil {
				t.Fatal(err)
			}
			if byTag != byDigest || string(byTag) != a.TargetDigest {
				t.Errorf("by tag %s, by digest %s, promised %s", byTag, byDigest, a.TargetDigest)
			}
		})
	}
}
