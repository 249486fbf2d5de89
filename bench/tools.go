//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const (
	waveproxyPackage    = "github.com/waveproxy/waveproxy/cmd/waveproxy"
	distributionModule  = "github.com/distribution/distribution/v3"
	distributionCommand = distributionModule + "/cmd/registry"
)

// build puts the programs under test into dir, before the way to the module
// proxy is cut.
func build(ctx context.Context, dir string) error {
	if err := findPrograms(); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "building waveproxy")
	if _, err := goCommand(ctx, nil, "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, "waveproxy"), waveproxyPackage); err != nil {
		return err
	}
	version, err := goCommand(ctx, nil, "list", "-m", "-f", "{{.Version}}", distributionModule)
	if err != nil {
		return err
	}
	// At the version of our go.mod, but with its own dependencies, because our
	// go.mod leaves out the dependencies of the storage drivers.
	fmt.Fprintln(os.Stderr, "building distribution", version)
	_, err = goCommand(ctx, []string{"GOBIN=" + dir, "GOFLAGS="}, "install", distributionCommand+"@"+version)
	return err
}

// findPrograms returns an error if a program is not installed. Debian keeps both
// programs out of the PATH of most users.
func findPrograms() error {
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin"); err != nil {
		return err
	}
	if _, err := exec.LookPath("nginx"); err != nil {
		return errors.New("nginx is not installed: apt-get install nginx-light")
	}
	if _, err := exec.LookPath("ip"); err != nil {
		return errors.New("ip is not installed: apt-get install iproute2")
	}
	return nil
}

func goCommand(ctx context.Context, env []string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Env = append(append(os.Environ(), "CGO_ENABLED=0"), env...)
	out, err := cmd.Output()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return "", fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, exit.Stderr)
	}
	return strings.TrimSpace(string(out)), err
}
