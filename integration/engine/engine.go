//go:build linux

package engine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// Engine pulls and runs images. Methods may be called concurrently, and end
// within two minutes. Errors hold the end of what the engine printed.
type Engine interface {
	// Name is "docker", "containerd" or "podman".
	Name() string
	// Pull fetches ref and returns all output of the engine, also when it fails.
	// Of an index, it fetches the image for this machine's platform.
	Pull(ctx context.Context, ref string) (output string, err error)
	// Run runs a pulled image in a new container on the host's network, and
	// returns its standard output. It never pulls. A command that exits with
	// another status than 0 is an error.
	Run(ctx context.Context, ref string, options RunOptions) (stdout string, err error)
	// Remove deletes an image. Layers stay as long as another image has them.
	Remove(ctx context.Context, ref string) error
}

// RunOptions override an image's config, in the same way on each engine.
type RunOptions struct {
	// Entrypoint replaces the image's entrypoint, and drops its command.
	Entrypoint []string
	// Args replace the image's command.
	Args []string
	Env  []string // KEY=VALUE
}

// Required reports whether WAVEPROXY_REQUIRE_ENGINES is 1. If so, a test fails if
// an engine or tool is missing; otherwise it runs without that engine.
func Required() bool { return os.Getenv("WAVEPROXY_REQUIRE_ENGINES") == "1" }

// starter starts an engine in its own directory. overlay says whether overlay
// file systems work there; stop ends all processes of the engine.
type starter func(dir string, overlay bool) (engine Engine, stop func() error, err error)

// fleet holds the engines that Available started.
var fleet struct {
	once    sync.Once
	dir     string
	engines []Engine
	stops   []func() error
	missing []string // name and reason
	err     error
}

// Available returns the engines that run on this machine. The first call starts
// them, which takes seconds; they serve the whole test binary, whose TestMain
// must call Close. An engine that is not installed or does not start is
// reported by name on standard error and left out, or fails the test if Required.
func Available(t testing.TB) []Engine {
	t.Helper()
	fleet.once.Do(startFleet)
	if fleet.err != nil {
		t.Fatalf("start engines: %v", fleet.err)
	}
	if len(fleet.missing) > 0 && Required() {
		t.Fatalf("engines that do not run here:\n%s", strings.Join(fleet.missing, "\n"))
	}
	return slices.Clone(fleet.engines)
}

// startFleet starts the engines at once, because each waits for its daemons.
func startFleet() {
	if fleet.dir, fleet.err = makeDir("wp-"); fleet.err != nil {
		return
	}
	// Unix socket names end at 107 bytes, and the engines add up to 40 of their own.
	if len(fleet.dir) > 60 {
		fleet.err = fmt.Errorf("%s is too long a path for sockets below it (set TMPDIR)", fleet.dir)
		return
	}
	overlay := overlayWorks(fleet.dir)
	type started struct {
		engine Engine
		stop   func() error
		err    error
	}
	starters := []struct {
		name  string
		start starter
	}{{"docker", startDocker}, {"containerd", startContainerd}, {"podman", startPodman}}
	results := make([]started, len(starters))
	var wg sync.WaitGroup
	for i, e := range starters {
		dir := filepath.Join(fleet.dir, e.name)
		if fleet.err = os.Mkdir(dir, 0o700); fleet.err != nil {
			break
		}
		wg.Go(func() { results[i].engine, results[i].stop, results[i].err = e.start(dir, overlay) })
	}
	wg.Wait()
	for i, r := range results {
		switch {
		case r.err != nil:
			fleet.missing = append(fleet.missing, fmt.Sprintf("%s: %v", starters[i].name, r.err))
		case r.engine != nil:
			fleet.engines = append(fleet.engines, r.engine)
			fleet.stops = append(fleet.stops, r.stop)
		}
	}
	report(overlay)
}

func report(overlay bool) {
	var names []string
	for _, e := range fleet.engines {
		names = append(names, e.Name())
	}
	storage := "overlay"
	if !overlay {
		storage = "copying (no overlay file system here)"
	}
	fmt.Fprintf(os.Stderr, "engines: %s; storage: %s\n", strings.Join(names, ", "), storage)
	for _, m := range fleet.missing {
		fmt.Fprintf(os.Stderr, "missing engine %s\n", m)
	}
}

// Close stops what Available started, and removes it from the machine. It is for
// TestMain, after the last test, and does nothing when no test used an engine.
func Close() error {
	if fleet.dir == "" {
		return nil
	}
	var errs []error
	for _, stop := range slices.Backward(fleet.stops) {
		errs = append(errs, stop())
	}
	return errors.Join(append(errs, removeAll(fleet.dir))...)
}
