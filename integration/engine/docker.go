//go:build linux

package engine

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Docker is the Docker engine with the storage of its own that it had before
// version 29, not containerd's.
type Docker struct {
	cli command
	api http.RoundTripper // to dockerd, without a process
}

func startDocker(dir string, overlay bool) (Engine, func() error, error) {
	socket := "unix://" + filepath.Join(dir, "s")
	cli, err := newCommand("docker", dir, "DOCKER_CONFIG="+dir, "DOCKER_HOST="+socket)
	if err != nil {
		return nil, nil, err
	}
	dockerd, err := newCommand("dockerd", dir)
	if err != nil {
		return nil, nil, err
	}
	// An empty configuration, in place of the machine's /etc/docker/daemon.json.
	config := filepath.Join(dir, "daemon.json")
	if err := os.WriteFile(config, []byte("{}"), 0o600); err != nil {
		return nil, nil, err
	}
	driver := "overlay2"
	if !overlay {
		driver = "vfs"
	}
	dockerd.flags = []string{
		"--host=" + socket,
		"--config-file=" + config,
		"--data-root=" + filepath.Join(dir, "data"),
		"--exec-root=" + filepath.Join(dir, "x"),
		"--pidfile=" + filepath.Join(dir, "pid"),
		"--storage-driver=" + driver,
		"--bridge=none", "--iptables=false", "--ip6tables=false",
	}
	d, err := dockerd.start(filepath.Join(dir, "log"), func(ctx context.Context) error {
		_, _, err := cli.run(ctx, "version")
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	engine := &Docker{cli, overUnix(filepath.Join(dir, "s"))}
	return engine, func() error { return errors.Join(engine.killContainers(), d.stop()) }, nil
}

// killContainers kills the containers of a cancelled Run; Docker then removes
// them. Otherwise Docker would wait ten seconds for each of them when it exits.
func (d *Docker) killContainers() error {
	list, _, err := d.cli.run(context.Background(), "ps", "--quiet")
	if containers := strings.Fields(list); err == nil && len(containers) > 0 {
		_, _, err = d.cli.run(context.Background(), append([]string{"kill"}, containers...)...)
	}
	return err
}

func (d *Docker) Name() string { return "docker" }

func (d *Docker) Pull(ctx context.Context, ref string) (string, error) {
	stdout, stderr, err := d.cli.run(ctx, "pull", ref)
	return stdout + stderr, err
}

// Login runs docker login.
func (d *Docker) Login(ctx context.Context, host, user, password string) error {
	_, _, err := d.cli.run(ctx, "login", "--username="+user, "--password="+password, host)
	return err
}

func (d *Docker) Run(ctx context.Context, ref string, options RunOptions) (string, error) {
	stdout, _, err := d.cli.run(ctx, options.arguments(ref)...)
	return stdout, err
}

func (d *Docker) Remove(ctx context.Context, ref string) error {
	_, _, err := d.cli.run(ctx, "rmi", "--force", ref)
	return err
}

// arguments returns the command line of docker run, which podman shares.
// --entrypoint takes one word, so the other words come before the arguments.
func (o RunOptions) arguments(ref string, flags ...string) []string {
	line := slices.Concat([]string{"run", "--rm", "--pull=never", "--network=host"}, flags)
	for _, e := range o.Env {
		line = append(line, "--env="+e)
	}
	if len(o.Entrypoint) == 0 {
		return slices.Concat(line, []string{ref}, o.Args)
	}
	return slices.Concat(line, []string{"--entrypoint=" + o.Entrypoint[0], ref}, o.Entrypoint[1:], o.Args)
}
