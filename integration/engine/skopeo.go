//go:build linux

package engine

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"
)

// Skopeo copies images and runs none.
type Skopeo struct{ cli command }

// FindSkopeo returns skopeo for this test. If it is not installed, FindSkopeo
// says so in the test's log, or fails the test if Required.
func FindSkopeo(t testing.TB) (*Skopeo, bool) {
	t.Helper()
	cli, err := newCommand("skopeo", t.TempDir())
	if err != nil {
		missing := t.Logf
		if Required() {
			missing = t.Fatalf
		}
		missing("missing tool skopeo: %v", err)
		return nil, false
	}
	return &Skopeo{cli}, true
}

// Copy copies ref to a directory that it then removes, and returns the digest. Of
// an index, it copies all images. skopeo checks all blobs against their digests
// on the way, and refuses to change a manifest.
func (s *Skopeo) Copy(ctx context.Context, ref string) (digest.Digest, error) {
	dir, err := os.MkdirTemp("", "wp-copy-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "digest")
	// No test is about signatures, so the machine needs no signature policy.
	_, _, err = s.cli.run(ctx, "--insecure-policy", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
		"--digestfile="+file, "docker://"+ref, "dir:"+filepath.Join(dir, "image"))
	if err != nil {
		return "", err
	}
	written, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("copy %s: %w", ref, err)
	}
	return digest.Parse(string(written))
}
