package fault

import (
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestFullDisk: submissions fill a small disk up to the reserve. Then what would
// store something new is 507, and /readyz says why. What is stored is still pulled, by
// tokens and through recipes, and tokens are revoked.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=24m"); err != nil {
		t.Fatalf("this test mounts a small file system, which takes root: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker", "busybox:multi")
	env := harness.WithScripts(t, reg)
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	env["WAVEPROXY_API_ADMINS"] = fmt.Sprintf("{ops: %q}", hash)
	p := harness.StartProxy(t, dir, env)
	kept, leaked := p.Augment(t, untouched("busybox:docker")), p.Augment(t, untouched("busybox:multi"))
	harness.NamedManifest(t, p, "scripts/library/busybox", "docker")
	if r := harness.Do(t, http.MethodGet, p.URL+"/readyz"); r.Status != http.StatusOK {
		t.Fatalf("ready with room: %d %s", r.Status, r.Body)
	}
	submit := func(text string) harness.Answer {
		layer := harness.LayerOf(t, harness.File{Name: "opt/noise", Text: text, Mode: 0o644})
		return p.Submit(t, harness.Request{ContainerImage: "busybox:docker", ContainerConfig: &harness.Config{Layers: []harness.Layer{layer}}})
	}
	var last harness.Answer
	for i := range 64 {
		if last = submit(noise(1<<20, i)); last.Status != http.StatusOK {
			break
		}
	}
	wantFull := func(what string, status int, body string) {
		t.Helper()
		if status != http.StatusInsufficientStorage || !strings.Contains(body, "storage.reserve") {
			t.Errorf("%s: status %d, want 507 with the reason: %s", what, status, body)
		}
	}
	wantFull("a submission", last.Status, last.Raw)
	harness.WriteFile(t, filepath.Join(dir, "ballast"), fill(t, dir), 0o600) // less than a submission needs
	small := p.Submit(t, untouched("busybox:docker"))
	if small.Status != http.StatusOK {
		t.Errorf("a submission that stores nothing new: %d %s", small.Status, small.Raw)
	}
	last = submit("small")
	wantFull("a small submission", last.Status, last.Raw)
	r := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/scripts/library/busybox/manifests/multi")
	wantFull("a new image under a recipe", r.Status, r.Body)
	time.Sleep(2100 * time.Millisecond) // until /readyz looks again
	if r := harness.Do(t, http.MethodGet, p.URL+"/readyz"); r.Status != http.StatusServiceUnavailable || !strings.Contains(r.Body, "storage.reserve") {
		t.Errorf("ready on a full disk: %d %s", r.Status, r.Body)
	}
	if r := harness.Do(t, http.MethodDelete, p.URL+"/container-token/"+leaked.ContainerToken, "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte("ops:open sesame"))); r.Status != http.StatusOK {
		t.Errorf("revoked on a full disk: %d %s", r.Status, r.Body)
	}
	p.Stop()
	p = harness.StartProxy(t, dir, env)
	for path, want := range map[string]int{
		kept.ContainerToken + "/library/busybox/manifests/docker":  http.StatusOK,
		leaked.ContainerToken + "/library/busybox/manifests/multi": http.StatusForbidden,
		"scripts/library/busybox/manifests/docker":                 http.StatusOK,
	} {
		if r := harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+path); r.Status != want {
			t.Errorf("%s on a full disk: status %d, want %d: %s", path, r.Status, want, r.Body)
		}
	}
	if err := os.Remove(filepath.Join(dir, "ballast")); err != nil {
		t.Fatal(err)
	}
	if r := harness.Do(t, http.MethodGet, p.URL+"/readyz"); r.Status != http.StatusOK {
		t.Errorf("ready with room again: %d %s", r.Status, r.Body)
	}
}

// fill returns as many bytes as leave half of the default reserve.
func fill(t *testing.T, dir string) string {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	reserve := int64(st.Blocks) * int64(st.Bsize) / 20
	return strings.Repeat("x", int(int64(st.Bavail)*int64(st.Bsize)-reserve/2))
}

// noise returns bytes that gzip cannot shorten.
func noise(size int, seed int) string {
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{byte(seed)}).Read(data)
	return string(data)
}
