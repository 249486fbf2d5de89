package harness

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// BinaryVariable names the program to test; without it the tests build one. It
// does not begin with WAVEPROXY_, because the program refuses unknown variables
// with that prefix.
const BinaryVariable = "INTEGRATION_BINARY"

// Binary returns the program as it ships, built once for all packages of tests.
var Binary = sync.OnceValues(func() (string, error) {
	if path := os.Getenv(BinaryVariable); path != "" {
		return path, nil
	}
	return goBuild("waveproxy")
})

// RaceBinary returns the program built so that it detects data races.
var RaceBinary = sync.OnceValues(func() (string, error) { return goBuild("waveproxy-race", "-race") })

// goBuild builds the program into a directory that all packages of tests share.
// If the program is up to date, go build leaves it as it is. A lock keeps two
// packages from building at a time.
func goBuild(name string, flags ...string) (string, error) {
	dir, err := buildDir()
	if err != nil {
		return "", err
	}
	lock, err := os.Create(filepath.Join(dir, name+".lock"))
	if err != nil {
		return "", err
	}
	defer lock.Close() // releases the lock
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return "", fmt.Errorf("lock %s: %w", lock.Name(), err)
	}
	path := filepath.Join(dir, name)
	args := append([]string{"build", "-trimpath", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, "github.com/waveproxy/waveproxy/cmd/waveproxy")...)
	cgo := "CGO_ENABLED=0"
	if slices.Contains(flags, "-race") {
		cgo = "CGO_ENABLED=1" // the race detector needs it
	}
	cmd.Env = append(os.Environ(), cgo)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// buildDir returns a directory of this checkout alone, because each checkout has
// a program of its own.
func buildDir() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	module, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	dir := filepath.Join(cache, "waveproxy-integration", strings.TrimPrefix(Sum(module), "sha256:")[:12])
	return dir, os.MkdirAll(dir, 0o755)
}

// Run runs the binary and returns stdout and stderr.
func Run(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env = append(os.Environ(), env...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}
