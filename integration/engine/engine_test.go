//go:build linux

package engine_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if err := engine.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stop engines:", err)
		code = 1
	}
	os.Exit(code)
}

// each runs a test on every engine, against a registry of its own. Engines know
// images by name, and the registry's port makes the names different.
func each(t *testing.T, test func(*testing.T, engine.Engine, *upstream.Server)) {
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) {
			t.Parallel() // engines share nothing
			test(t, e, upstream.Registry(t))
		})
	}
}

// pull pulls an image of library/ and removes it after the test.
func pull(t *testing.T, e engine.Engine, s *upstream.Server, image string) (ref string) {
	t.Helper()
	ref = s.Host + "/library/" + image
	if _, err := e.Pull(t.Context(), ref); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), ref); err != nil {
			t.Errorf("remove %s: %v", ref, err)
		}
	})
	return ref
}

func TestRunsEveryKindOfImage(t *testing.T) {
	each(t, func(t *testing.T, e engine.Engine, s *upstream.Server) {
		images := []string{
			"busybox:docker", "busybox:oci", "busybox:docker-multi", "busybox:multi",
			"busybox:layers124", "busybox:nohistory", "usrmerge:latest",
		}
		if e.Name() != "docker" { // 20.10, Debian's, takes no zstd
			images = append(images, "busybox:zstd")
		}
		upstream.Push(t, s.Host, images...)
		for _, image := range images {
			t.Run(image, func(t *testing.T) {
				ref := pull(t, e, s, image)
				got, err := e.Run(t.Context(), ref, engine.RunOptions{
					Args: []string{"sh", "-c", `echo "$WORD"; cat /etc/image-arch`},
					Env:  []string{"WORD=from outside"},
				})
				if want := "from outside\namd64\n"; err != nil || got != want {
					t.Errorf("printed %q, %v; want %q", got, err, want)
				}
			})
		}
	})
}

func TestRunOptions(t *testing.T) {
	tests := []struct {
		name    string
		image   string
		options engine.RunOptions
		want    string
	}{
		{"nothing", "busybox:entry", engine.RunOptions{}, "entrypoint in /srv/work says hello\ndefault command\n"},
		{"args", "busybox:entry", engine.RunOptions{Args: []string{"echo", "other command"}},
			"entrypoint in /srv/work says hello\nother command\n"},
		{"env", "busybox:entry", engine.RunOptions{Env: []string{"GREETING=good bye"}},
			"entrypoint in /srv/work says good bye\ndefault command\n"},
		{"entrypoint", "busybox:entry", engine.RunOptions{Entrypoint: []string{"echo"}}, "\n"},
		{"entrypoint of several words and args", "busybox:entry",
			engine.RunOptions{Entrypoint: []string{"/bin/sh", "-c", `echo "$0, $1"`}, Args: []string{"a b", "c"}}, "a b, c\n"},
		{"args of an index", "busybox:multi", engine.RunOptions{Args: []string{"echo", "index"}}, "index\n"},
		{"standard output only", "busybox:multi", engine.RunOptions{Args: []string{"sh", "-c", "echo out; echo err >&2"}}, "out\n"},
		// The command is a shell without a terminal, which reads until the end of its input.
		{"nothing for a shell", "busybox:multi", engine.RunOptions{}, ""},
	}
	each(t, func(t *testing.T, e engine.Engine, s *upstream.Server) {
		upstream.Push(t, s.Host, "busybox:entry", "busybox:multi")
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				got, err := e.Run(t.Context(), pull(t, e, s, test.image), test.options)
				if err != nil || got != test.want {
					t.Errorf("printed %q, %v; want %q", got, err, test.want)
				}
			})
		}
	})
}

func TestFailures(t *testing.T) {
	each(t, func(t *testing.T, e engine.Engine, s *upstream.Server) {
		upstream.Push(t, s.Host, "busybox:oci")
		s.Reset()
		if _, err := e.Run(t.Context(), s.Host+"/library/busybox:oci", engine.RunOptions{Args: []string{"true"}}); err == nil {
			t.Error("ran an image that was not pulled")
		}
		if got := s.Requests(); len(got) != 0 {
			t.Errorf("Run pulled: %q", got)
		}
		output, err := e.Pull(t.Context(), s.Host+"/library/missing:latest")
		if err == nil || !strings.Contains(err.Error(), "missing:latest") || output == "" {
			t.Errorf("pull of a missing image: %q, %v", output, err)
		}
		ref := pull(t, e, s, "busybox:oci")
		if _, err := e.Run(t.Context(), ref, engine.RunOptions{Args: []string{"sh", "-c", "echo reason >&2; exit 3"}}); err == nil ||
			!strings.Contains(err.Error(), "reason") {
			t.Errorf("run of a command that fails: %v", err)
		}
	})
}

// A second pull downloads nothing, and a pull after Remove downloads everything
// again.
func TestSecondPullFetchesNoBlob(t *testing.T) {
	each(t, func(t *testing.T, e engine.Engine, s *upstream.Server) {
		upstream.Push(t, s.Host, "busybox:multi")
		ref := s.Host + "/library/busybox:multi"
		blobs := func() (requests []string) {
			t.Helper()
			s.Reset()
			if _, err := e.Pull(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
			if len(s.Requests()) == 0 {
				t.Error("the pull made no request to the registry")
			}
			return slices.DeleteFunc(s.Requests(), func(r string) bool { return !strings.Contains(r, "/blobs/") })
		}
		remove := func() {
			t.Helper()
			if err := e.Remove(t.Context(), ref); err != nil {
				t.Fatal(err)
			}
		}
		first, second := blobs(), blobs()
		remove()
		third := blobs()
		remove()
		if len(first) != 2 || len(third) != 2 {
			t.Errorf("the first pull and the pull after Remove requested the blobs %q and %q, want config and layer", first, third)
		}
		most := 0
		if e.Name() == "podman" { // it reads the config on each pull
			most = 1
		}
		if len(second) > most {
			t.Errorf("the second pull requested the blobs %q", second)
		}
	})
}

// Close, which TestMain calls, ends the containers that a cancelled Run leaves.
func TestCancelledRun(t *testing.T) {
	each(t, func(t *testing.T, e engine.Engine, s *upstream.Server) {
		upstream.Push(t, s.Host, "busybox:oci")
		ref := s.Host + "/library/busybox:oci"
		if _, err := e.Pull(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		if _, err := e.Run(ctx, ref, engine.RunOptions{Args: []string{"sleep", "1000"}}); err == nil {
			t.Error("Run outlived its context")
		}
	})
}

func TestPullMirrored(t *testing.T) {
	each(t, func(t *testing.T, e engine.Engine, s *upstream.Server) {
		c, ok := e.(*engine.Containerd)
		if !ok {
			return
		}
		upstream.Push(t, s.Host, "busybox:docker")
		s.Reset()
		hosts := t.TempDir()
		if err := os.Mkdir(filepath.Join(hosts, "docker.io"), 0o755); err != nil {
			t.Fatal(err)
		}
		content := fmt.Appendf(nil, "server = %q\n[host.%q]\n", s.URL, s.URL)
		if err := os.WriteFile(filepath.Join(hosts, "docker.io", "hosts.toml"), content, 0o644); err != nil {
			t.Fatal(err)
		}
		const ref = "docker.io/library/busybox:docker"
		if _, err := c.PullMirrored(t.Context(), hosts, ref); err != nil {
			t.Fatal(err)
		}
		if want := "HEAD /v2/library/busybox/manifests/docker?ns=docker.io"; !slices.Contains(s.Requests(), want) {
			t.Errorf("requests %q lack %q", s.Requests(), want)
		}
		if got, err := c.Run(t.Context(), ref, engine.RunOptions{Args: []string{"echo", "x"}}); err != nil || got != "x\n" {
			t.Errorf("printed %q, %v", got, err)
		}
		if err := c.Remove(t.Context(), ref); err != nil {
			t.Error(err)
		}
	})
}

func TestSkopeo(t *testing.T) {
	skopeo, ok := engine.FindSkopeo(t)
	if !ok {
		return
	}
	s := upstream.Registry(t)
	images := upstream.PushAll(t, s.Host)
	delete(images, "schema1:latest") // its digest is not that of its bytes
	for image, want := range images {
		t.Run(image, func(t *testing.T) {
			got, err := skopeo.Copy(t.Context(), s.Host+"/library/"+image)
			if err != nil || got != want {
				t.Errorf("copied %s, %v; want %s", got, err, want)
			}
		})
	}
	if _, err := skopeo.Copy(t.Context(), s.Host+"/library/missing:latest"); err == nil {
		t.Error("copied a missing image")
	}
}
