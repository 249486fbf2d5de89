//go:build linux

package engine

import (
	"context"
	"os"
	"path/filepath"
)

// Podman needs no daemon.
type Podman struct{ cli command }

// podmanConfig replaces the machine's configuration. It keeps locks in files
// below tmpdir, because locks in shared memory are common to all podmans of the
// machine.
const podmanConfig = `[engine]
lock_type = "file"
events_logger = "none"
`

func startPodman(dir string, overlay bool) (Engine, func() error, error) {
	config := filepath.Join(dir, "containers.conf")
	cli, err := newCommand("podman", dir, "CONTAINERS_CONF="+config)
	if err != nil {
		return nil, nil, err
	}
	// podman's first choice is crun, which fails where cgroup v1 and v2 are both
	// mounted.
	runc, err := find("runc")
	if err != nil {
		return nil, nil, err
	}
	if err := os.WriteFile(config, []byte(podmanConfig), 0o600); err != nil {
		return nil, nil, err
	}
	driver := "overlay"
	if !overlay {
		driver = "vfs"
	}
	cli.flags = []string{
		"--root=" + filepath.Join(dir, "root"),
		"--runroot=" + filepath.Join(dir, "run"),
		"--tmpdir=" + filepath.Join(dir, "tmp"),
		"--storage-driver=" + driver,
		"--cgroup-manager=cgroupfs",
		"--runtime=" + runc,
	}
	if _, _, err := cli.run(context.Background(), "info"); err != nil {
		return nil, nil, err
	}
	return &Podman{cli}, func() error {
		// Removes the containers of a cancelled Run. They may end by themselves
		// meanwhile.
		_, _, err := cli.run(context.Background(), "rm", "--all", "--force", "--ignore", "--time=0")
		return err
	}, nil
}

func (p *Podman) Name() string { return "podman" }

func (p *Podman) Pull(ctx context.Context, ref string) (string, error) {
	stdout, stderr, err := p.cli.run(ctx, "pull", "--tls-verify=false", ref)
	return stdout + stderr, err
}

func (p *Podman) Run(ctx context.Context, ref string, options RunOptions) (string, error) {
	// podman's default limits need CAP_SYS_RESOURCE, which containers lack.
	stdout, _, err := p.cli.run(ctx, options.arguments(ref, "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")...)
	return stdout, err
}

func (p *Podman) Remove(ctx context.Context, ref string) error {
	_, _, err := p.cli.run(ctx, "rmi", "--force", ref)
	return err
}
