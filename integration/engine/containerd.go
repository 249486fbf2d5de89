//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Containerd is driven by its own client, ctr. Unlike the engines built on
// containerd, ctr adds no names, networks or defaults.
type Containerd struct {
	ctr     command
	dir     string
	counter atomic.Int64
}

// containerdConfig leaves out what talks to Kubernetes, and storage drivers
// that complain about missing tools. opt would otherwise be made as /opt/containerd.
const containerdConfig = `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = [
	"io.containerd.grpc.v1.cri",
	"io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.zfs",
]
[grpc]
	address = "%[1]s/s"
[plugins."io.containerd.internal.v1.opt"]
	path = "%[1]s/opt"
`

func startContainerd(dir string, overlay bool) (Engine, func() error, error) {
	snapshotter := "overlayfs"
	if !overlay {
		snapshotter = "native"
	}
	ctr, err := newCommand("ctr", dir,
		"CONTAINERD_ADDRESS="+filepath.Join(dir, "s"), "CONTAINERD_NAMESPACE=test", "CONTAINERD_SNAPSHOTTER="+snapshotter)
	if err != nil {
		return nil, nil, err
	}
	server, err := newCommand("containerd", dir)
	if err != nil {
		return nil, nil, err
	}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, containerdConfig, dir), 0o600); err != nil {
		return nil, nil, err
	}
	server.flags = []string{"--config=" + config}
	d, err := server.start(filepath.Join(dir, "log"), func(ctx context.Context) error {
		_, _, err := ctr.run(ctx, "version")
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	engine := &Containerd{ctr: ctr, dir: dir}
	return engine, func() error { return errors.Join(engine.removeTasks(), d.stop()) }, nil
}

// removeTasks kills the tasks of a cancelled Run, because shims do not end with
// containerd.
func (c *Containerd) removeTasks() error {
	list, _, err := c.ctr.run(context.Background(), "tasks", "list", "--quiet")
	if tasks := strings.Fields(list); err == nil && len(tasks) > 0 {
		_, _, err = c.ctr.run(context.Background(), append([]string{"tasks", "delete", "--force"}, tasks...)...)
	}
	return err
}

func (c *Containerd) Name() string { return "containerd" }

func (c *Containerd) Pull(ctx context.Context, ref string) (string, error) {
	stdout, stderr, err := c.ctr.run(ctx, "images", "pull", "--plain-http", ref)
	return stdout + stderr, err
}

// PullMirrored pulls through the hosts.toml files in hostsDir, an absolute path,
// as Kubernetes nodes do: ref keeps the name of the original registry. When the
// mirror fails, containerd asks the file's server. Tests must set one, because
// without it containerd asks the real registry.
func (c *Containerd) PullMirrored(ctx context.Context, hostsDir, ref string) (string, error) {
	stdout, stderr, err := c.ctr.run(ctx, "images", "pull", "--hosts-dir", hostsDir, ref)
	return stdout + stderr, err
}

func (c *Containerd) Run(ctx context.Context, ref string, options RunOptions) (string, error) {
	process, err := c.process(ctx, ref, options)
	if err != nil {
		return "", err
	}
	// When a container ends, ctr closes its pipes before it has read them: on a
	// busy machine the output of a short program is lost.
	for range 3 {
		stdout, err := c.run(ctx, ref, options.Env, process)
		if stdout != "" || err != nil {
			return stdout, err
		}
	}
	return "", nil
}

func (c *Containerd) run(ctx context.Context, ref string, env, process []string) (string, error) {
	id := fmt.Sprintf("run-%d", c.counter.Add(1))
	pid := filepath.Join(c.dir, id+".pid")
	line := []string{
		"run", "--rm", "--net-host", "--cgroup=", "--pid-file=" + pid,
		"--runc-root=" + filepath.Join(c.dir, "runc"), "--fifo-dir=" + filepath.Join(c.dir, "fifo"),
	}
	for _, e := range env {
		line = append(line, "--env="+e)
	}
	// ctr loses the end of its input if that comes before the container is made,
	// and a shell in it then reads for ever: end it when ctr has written the file.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stdout, _, err := c.ctr.runWith(ctx, endOnceExists{ctx, pid}, slices.Concat(line, []string{ref, id}, process)...)
	return stdout, err
}

func (c *Containerd) Remove(ctx context.Context, ref string) error {
	_, _, err := c.ctr.run(ctx, "images", "rm", "--sync", ref)
	return err
}

// process returns the arguments that give ctr run the meaning of options. They
// replace the image's entrypoint too, so process looks it up.
func (c *Containerd) process(ctx context.Context, ref string, options RunOptions) ([]string, error) {
	if len(options.Entrypoint) > 0 || len(options.Args) == 0 {
		return slices.Concat(options.Entrypoint, options.Args), nil
	}
	list, _, err := c.ctr.run(ctx, "images", "list", "name=="+ref)
	if err != nil {
		return nil, err
	}
	// A heading, then REF TYPE DIGEST and more.
	_, row, _ := strings.Cut(list, "\n")
	fields := strings.Fields(row)
	if len(fields) < 3 {
		return nil, fmt.Errorf("containerd has no image %s", ref)
	}
	var manifest struct {
		Manifests []v1.Descriptor // set for an index
		Config    v1.Descriptor
	}
	if err := c.content(ctx, fields[2], &manifest); err != nil {
		return nil, err
	}
	native := func(d v1.Descriptor) bool {
		return d.Platform != nil && d.Platform.OS == "linux" && d.Platform.Architecture == runtime.GOARCH
	}
	if i := slices.IndexFunc(manifest.Manifests, native); i >= 0 {
		if err := c.content(ctx, manifest.Manifests[i].Digest.String(), &manifest); err != nil {
			return nil, err
		}
	}
	var image v1.ConfigFile
	if err := c.content(ctx, manifest.Config.Digest.String(), &image); err != nil {
		return nil, err
	}
	return slices.Concat(image.Config.Entrypoint, options.Args), nil
}

// content decodes a JSON blob of containerd's store.
func (c *Containerd) content(ctx context.Context, digest string, value any) error {
	content, _, err := c.ctr.run(ctx, "content", "get", digest)
	if err != nil {
		return err
	}
	if err := json.Unmarshal([]byte(content), value); err != nil {
		return fmt.Errorf("decode %s: %w", digest, err)
	}
	return nil
}

// endOnceExists is an empty input that ends when a file exists.
type endOnceExists struct {
	ctx  context.Context
	path string
}

func (r endOnceExists) Read([]byte) (int, error) {
	for r.ctx.Err() == nil {
		if _, err := os.Stat(r.path); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	return 0, io.EOF
}
