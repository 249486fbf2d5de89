package integration

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
)

func TestMain(m *testing.M) {
	status := m.Run()
	if err := engine.Close(); err != nil {
		fmt.Fprintln(os.Stderr, "stop engines:", err)
		status = 1
	}
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
	os.Exit(status)
}

var binaryDir string

// binary builds the program as it ships, once for all tests.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "waveproxy-bin-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "waveproxy")
	cmd := exec.Command("go", "build", "-o", path, "github.com/waveproxy/waveproxy/cmd/waveproxy")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// proxy is a running "waveproxy serve".
type proxy struct {
	URL  string // http://localhost:port
	Host string // localhost:port, as image names have it
	Dir  string // its storage
	Log  *logBuffer

	debug string // URL of /metrics
	stop  func()
	kill  func() // as a crash does
}

// logBuffer holds the server's log.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logBuffer) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.WriteString(line + "\n")
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// hub is the configuration that has a local registry stand in for Docker Hub.
func hub(registryURL string) map[string]string {
	return map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(`{docker.io: {url: %q}}`, registryURL)}
}

// startProxy runs the server with the environment on a free port. dir is its
// storage; "" is a new one.
func startProxy(t *testing.T, dir string, env map[string]string) *proxy {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if dir == "" {
		dir = t.TempDir()
	}
	p := &proxy{Dir: dir, Log: &logBuffer{}}
	settings := map[string]string{
		"WAVEPROXY_HTTP_ADDR": "127.0.0.1:0", "WAVEPROXY_STORAGE_DIR": dir,
		"WAVEPROXY_LOG_FORMAT": "json", "WAVEPROXY_LOG_LEVEL": "debug", "WAVEPROXY_HTTP_DEBUG_ADDR": "127.0.0.1:0",
		"WAVEPROXY_LIMITS_SUBMITS": "0", // tests ask more than people do
	}
	maps.Copy(settings, env)
	cmd := exec.Command(path, "serve")
	cmd.Env = os.Environ()
	for k, v := range settings {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ready, drained := make(chan string, 1), make(chan struct{})
	go p.follow(stderr, ready, drained)
	var once sync.Once
	p.stop = func() {
		once.Do(func() {
			_ = cmd.Process.Signal(syscall.SIGTERM)
			timer := time.AfterFunc(40*time.Second, func() { _ = cmd.Process.Kill() })
			<-drained
			if err := cmd.Wait(); err != nil {
				t.Errorf("the server ended with %v", err)
			}
			timer.Stop()
		})
	}
	p.kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			<-drained
			_ = cmd.Wait()
		})
	}
	t.Cleanup(func() {
		metrics := p.metrics(t)
		p.stop()
		p.checkLeaks(t, metrics)
		if t.Failed() {
			t.Logf("log of the server:\n%s", p.Log)
		}
	})
	select {
	case p.URL = <-ready:
	case <-drained:
		t.Fatalf("the server did not start:\n%s", p.Log)
	case <-time.After(30 * time.Second):
		t.Fatalf("the server is not ready:\n%s", p.Log)
	}
	p.Host = strings.TrimPrefix(p.URL, "http://")
	return p
}

// follow reads the log; the line "serving" says where the server is.
func (p *proxy) follow(r io.Reader, ready chan<- string, drained chan<- struct{}) {
	defer close(drained)
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		p.Log.add(lines.Text())
		var line struct{ Msg, Host, Addr string }
		if json.Unmarshal(lines.Bytes(), &line) != nil {
			continue
		}
		switch line.Msg {
		case "serving metrics":
			p.debug = "http://" + line.Addr // before anybody learns that the server is ready
		case "serving":
			ready <- line.Host
		}
	}
}

// metrics returns what the operator's listener says, nothing once the server has
// been stopped.
func (p *proxy) metrics(t *testing.T) []byte {
	t.Helper()
	resp, err := http.Get(p.debug + "/metrics")
	if err != nil {
		return nil
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !bytes.Contains(text, []byte("waveproxy_build_info")) {
		t.Errorf("metrics: %s, %v\n%.300s", resp.Status, err, text)
	}
	return text
}

// answer is what the API says to a submission.
type answer struct {
	RequestID, ContainerToken, TargetImage, Expiration, ContainerImage string
	SourceDigest, TargetDigest                                         string
	Succeeded                                                          bool
	Message                                                            string
	status                                                             int
	raw                                                                string
}

// call sends a request to the API. It may be used from any goroutine.
func (p *proxy) call(ctx context.Context, method, path, body string, header ...string) (response, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.URL+path, strings.NewReader(body))
	if err != nil {
		return response{}, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return response{}, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if resp.StatusCode >= http.StatusBadRequest {
		if found := leaks(data); len(found) > 0 {
			err = fmt.Errorf("the error has a secret: %s", found)
		}
	}
	return response{resp.StatusCode, resp.Header, string(data)}, err
}

// submit posts a request, which is anything that marshals to JSON or a string
// to be sent as it is.
func (p *proxy) submit(t *testing.T, request any) answer {
	t.Helper()
	body, ok := request.(string)
	if !ok {
		data, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		body = string(data)
	}
	resp, err := p.call(t.Context(), http.MethodPost, "/v1alpha2/container", body)
	if err != nil {
		t.Fatal(err)
	}
	a, err := resp.answer()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// answer reads a response to a submission.
func (r response) answer() (answer, error) {
	a := answer{status: r.status, raw: r.body}
	if err := json.Unmarshal([]byte(r.body), &a); err != nil {
		return a, fmt.Errorf("status %d, body %q: %w", r.status, r.body, err)
	}
	return a, nil
}

// augment submits a request that must succeed.
func (p *proxy) augment(t *testing.T, request any) answer {
	t.Helper()
	a := p.submit(t, request)
	if a.status != http.StatusOK || !a.Succeeded {
		t.Fatalf("status %d: %s", a.status, a.raw)
	}
	return a
}

// run runs the binary and returns stdout and stderr.
func run(t *testing.T, env []string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	path, err := binary()
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
