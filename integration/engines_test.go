package integration

import (
	"archive/tar"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestEngines runs augmented images in every container engine here: what is
// injected must execute, with the recipe's environment, and everything else
// must be as the base image has it.
func TestEngines(t *testing.T) {
	engines := engine.Available(t)
	reg := upstream.Registry(t)
	digests := upstream.PushAll(t, reg.Host)
	p := startProxy(t, "", hub(reg.URL))
	for _, e := range engines {
		t.Run(e.Name(), func(t *testing.T) {
			for _, kind := range kinds {
				if kind == "busybox:zstd" && e.Name() == "docker" {
					continue // Docker's own store cannot unpack zstd, whoever serves it
				}
				t.Run(kind, func(t *testing.T) { runGreeter(t, e, p, kind) })
			}
			t.Run("base is untouched", func(t *testing.T) { runUntouched(t, e, p, reg) })
			t.Run("pinned by digest", func(t *testing.T) {
				runGreeter(t, e, p, "busybox@"+digests["busybox:docker-multi"].String())
			})
			t.Run("usrmerge", func(t *testing.T) { runUsrMerge(t, e, p) })
			t.Run("many layers", func(t *testing.T) { runManyLayers(t, e, p) })
			t.Run("second pull", func(t *testing.T) { pullTwice(t, e, p, reg) })
		})
	}
}

func mustPull(t *testing.T, e engine.Engine, image string) {
	t.Helper()
	if out, err := e.Pull(t.Context(), image); err != nil {
		t.Fatalf("pull %s: %v\n%s", image, err, out)
	}
}

func mustRun(t *testing.T, e engine.Engine, image string, args ...string) string {
	t.Helper()
	out, err := e.Run(t.Context(), image, engine.RunOptions{Args: args})
	if err != nil {
		t.Fatalf("run %s: %v", image, err)
	}
	return out
}

func runGreeter(t *testing.T, e engine.Engine, p *proxy, kind string) {
	a := p.augment(t, request{ContainerImage: kind, ContainerConfig: greeter(t)})
	mustPull(t, e, a.TargetImage)
	if out := mustRun(t, e, a.TargetImage); out != greeting {
		t.Errorf("printed %q, want %q", out, greeting)
	}
	if out := mustRun(t, e, a.TargetImage, "my", "args"); out != "hello /opt/greet my args\n" {
		t.Errorf("with arguments: %q", out)
	}
}

// runUntouched adds a file and nothing else: the image must start as its base.
func runUntouched(t *testing.T, e engine.Engine, p *proxy, reg *upstream.Server) {
	a := p.augment(t, request{ContainerImage: "busybox:entry", ContainerConfig: &config{
		Layers: []testLayer{layerOf(t, file{name: "srv/added", mode: 0o644, text: "added\n"})},
	}})
	base := reg.Host + "/library/busybox:entry"
	mustPull(t, e, base)
	mustPull(t, e, a.TargetImage)
	want, got := mustRun(t, e, base), mustRun(t, e, a.TargetImage)
	if got != want || want == "" {
		t.Errorf("the augmented image prints %q, its base %q", got, want)
	}
}

// runUsrMerge injects bin/hello into an image where /bin is a link.
func runUsrMerge(t *testing.T, e engine.Engine, p *proxy) {
	a := p.augment(t, request{ContainerImage: "usrmerge", ContainerConfig: &config{
		Cmd: []string{"/bin/sh", "-c", "/bin/hello && /usr/bin/hello && ls -ld /bin | cut -c1"},
		Layers: []testLayer{layerOf(t,
			file{name: "bin/", kind: tar.TypeDir, mode: 0o755},
			file{name: "bin/hello", mode: 0o755, text: "#!/bin/sh\necho hello from $0\n"},
		)},
	}})
	mustPull(t, e, a.TargetImage)
	if out := mustRun(t, e, a.TargetImage); out != "hello from /bin/hello\nhello from /usr/bin/hello\nl\n" {
		t.Errorf("printed %q", out)
	}
}

// runManyLayers injects three layers where there is room for one.
func runManyLayers(t *testing.T, e engine.Engine, p *proxy) {
	a := p.augment(t, request{ContainerImage: "busybox:layers124", ContainerConfig: &config{
		Cmd: []string{"/bin/sh", "-c", "cat /one /two /three"},
		Layers: []testLayer{
			layerOf(t, file{name: "one", mode: 0o644, text: "1"}, file{name: "two", mode: 0o644, text: "wrong"}),
			layerOf(t, file{name: "two", mode: 0o644, text: "2"}),
			layerOf(t, file{name: "three", mode: 0o644, text: "3"}),
		},
	}})
	mustPull(t, e, a.TargetImage)
	if out := mustRun(t, e, a.TargetImage); out != "123" {
		t.Errorf("printed %q, want 123", out)
	}
}

// pullTwice counts blobs: a name that was pulled downloads nothing again.
func pullTwice(t *testing.T, e engine.Engine, p *proxy, reg *upstream.Server) {
	a := p.augment(t, request{ContainerImage: "busybox:oci", ContainerConfig: &config{Env: []string{"ENGINE=" + e.Name()}}})
	mustPull(t, e, a.TargetImage)
	reg.Reset()
	before := len(p.Log.String())
	mustPull(t, e, a.TargetImage)
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("the second pull asked the upstream for %v", requests)
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
	p := startProxy(t, "", hub(reg.URL))
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			a := p.augment(t, request{ContainerImage: kind, ContainerConfig: greeter(t)})
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
