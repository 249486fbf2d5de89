package harness

import (
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
)

// MustPull pulls an image or fails the test.
func MustPull(t *testing.T, e engine.Engine, image string) {
	t.Helper()
	if out, err := e.Pull(t.Context(), image); err != nil {
		t.Fatalf("pull %s: %v\n%s", image, err, out)
	}
}

// MustRun runs a pulled image and returns what it prints, or fails the test.
func MustRun(t *testing.T, e engine.Engine, image string, args ...string) string {
	t.Helper()
	out, err := e.Run(t.Context(), image, engine.RunOptions{Args: args})
	if err != nil {
		t.Fatalf("run %s: %v", image, err)
	}
	return out
}

// DockerEngine returns Docker, or fails the test if there is none.
func DockerEngine(t *testing.T) engine.Engine {
	t.Helper()
	for _, e := range engine.Available(t) {
		if e.Name() == "docker" {
			return e
		}
	}
	t.Fatal("this machine has no Docker engine; install docker.io to run the test")
	return nil
}
