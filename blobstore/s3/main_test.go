package s3

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

const (
	testKey    = "AKIDEXAMPLE"
	testSecret = "a-secret-that-no-error-may-show"
)

// gateway is an S3 server: versitygw, with a directory for each bucket.
type gateway struct {
	url, dir string
	stop     func()
}

var shared struct {
	once sync.Once
	*gateway
	err error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.gateway != nil {
		shared.stop()
	}
	os.Exit(code)
}

// findGateway returns the path of versitygw, or ok false where it may be missing.
func findGateway(t *testing.T) (path string, ok bool) {
	t.Helper()
	path, err := exec.LookPath("versitygw")
	if err != nil {
		missing := t.Logf
		if os.Getenv("WAVEPROXY_REQUIRE_ENGINES") == "1" {
			missing = t.Fatalf
		}
		missing("missing program versitygw: %v", err)
	}
	return path, err == nil
}

// startGateway starts a server of its own.
func startGateway(path string) (*gateway, error) {
	dir, err := os.MkdirTemp("", "versitygw-")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"root", "meta"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			return nil, err
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := l.Addr().String()
	l.Close()
	ctx, cancel := context.WithCancel(context.Background())
	// The directory for metadata serves file systems without extended attributes.
	cmd := exec.CommandContext(ctx, path, "--port", address, "--quiet", "--keep-alive", "--health", "/health",
		"posix", "--sidecar", filepath.Join(dir, "meta"), filepath.Join(dir, "root"))
	cmd.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+testKey, "ROOT_SECRET_KEY="+testSecret)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, err
	}
	g := &gateway{url: "http://" + address, dir: filepath.Join(dir, "root")}
	g.stop = sync.OnceFunc(func() {
		cancel()
		_ = cmd.Wait()
		os.RemoveAll(dir)
	})
	for range 200 {
		if resp, err := http.Get(g.url + "/health"); err == nil {
			resp.Body.Close()
			return g, nil
		}
		time.Sleep(50 * time.Millisecond)
	}
	g.stop()
	return nil, fmt.Errorf("versitygw does not start:\n%s", log.String())
}

// sharedGateway returns the server that most tests use.
func sharedGateway(t *testing.T) (*gateway, bool) {
	t.Helper()
	path, ok := findGateway(t)
	if !ok {
		return nil, false
	}
	shared.once.Do(func() { shared.gateway, shared.err = startGateway(path) })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.gateway, true
}

var buckets struct {
	sync.Mutex
	n int
}

// newBucket makes a bucket and returns its name.
func (g *gateway) newBucket(t *testing.T) string {
	t.Helper()
	buckets.Lock()
	buckets.n++
	name := fmt.Sprintf("bucket-%d", buckets.n)
	buckets.Unlock()
	if err := os.Mkdir(filepath.Join(g.dir, name), 0o700); err != nil {
		t.Fatal(err)
	}
	return name
}

func (g *gateway) options(name string) Options {
	return Options{
		Name: name, Prefix: "some/prefix", Region: "us-east-1", Endpoint: g.url, PathStyle: true,
		AccessKeyID: testKey, Secret: func() (string, error) { return testSecret, nil }, Transport: http.DefaultTransport.(*http.Transport),
	}
}

func (g *gateway) open(t *testing.T, name string) *Bucket {
	t.Helper()
	b, err := Open(t.Context(), g.options(name))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// server returns the store in a bucket, as one more server has it.
func (g *gateway) server(t *testing.T, name string) *blobstore.Bucket {
	t.Helper()
	s, err := blobstore.OpenBucket(t.Context(), blobstore.BucketOptions{
		Objects: g.open(t, name), Staging: t.TempDir(), Listed: storetest.Listed,
		Revocation: func(record string) bool { return strings.Contains(record, "revoked/") },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
