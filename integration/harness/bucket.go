package harness

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
)

// Bucket starts an S3 server, versitygw, with one bucket, and returns the settings of
// servers that keep their data there, and the directory in which the bucket has its
// objects. ok is false where the program is missing and may be.
func Bucket(t *testing.T) (settings map[string]string, dir string, ok bool) {
	t.Helper()
	path, err := exec.LookPath("versitygw")
	if err != nil {
		missing := t.Logf
		if engine.Required() {
			missing = t.Fatalf
		}
		missing("missing program versitygw: %v", err)
		return nil, "", false
	}
	root, meta := t.TempDir(), t.TempDir() // metadata apart, for file systems without extended attributes
	dir = filepath.Join(root, "images")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close()
	secret := SecretFor("s3")
	var log bytes.Buffer
	cmd := exec.Command(path, "--port", address, "--quiet", "--keep-alive", "--health", "/health", "posix", "--sidecar", meta, root)
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY=waveproxy", "ROOT_SECRET_KEY="+secret)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(10*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of versitygw:\n%s", log.String())
		}
	})
	WaitFor(t, 30*time.Second, func() bool {
		resp, err := http.Get("http://" + address + "/health")
		if err == nil {
			resp.Body.Close()
		}
		return err == nil
	})
	return map[string]string{
		"WAVEPROXY_STORAGE_S3_BUCKET": "images", "WAVEPROXY_STORAGE_S3_PREFIX": "some/prefix",
		"WAVEPROXY_STORAGE_S3_ENDPOINT": "http://" + address, "WAVEPROXY_STORAGE_S3_PATH_STYLE": "true",
		"WAVEPROXY_STORAGE_S3_ACCESS_KEY_ID": "waveproxy", "WAVEPROXY_STORAGE_S3_SECRET_ACCESS_KEY": secret,
		"WAVEPROXY_TOKENS_KEYS": `[{"key": "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="}]`,
	}, dir, true
}
