package harness

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Proxy is a running "waveproxy serve".
type Proxy struct {
	URL  string // http://localhost:port
	Host string // localhost:port, as image names have it
	Dir  string // its storage
	Log  *logBuffer

	DebugURL string // URL of /metrics
	PID      int
	Stop     func()
	Kill     func() // ends the server like a crash
}

// logBuffer holds the server's log. It may be used from any goroutine.
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

// StartProxy runs the server with the environment on a free port. dir is its
// storage; "" makes a new one.
func StartProxy(t *testing.T, dir string, env map[string]string) *Proxy {
	t.Helper()
	path, err := Binary()
	if err != nil {
		t.Fatal(err)
	}
	return StartBinary(t, path, dir, env)
}

// StartBinary is StartProxy with another build of the program, or with a script
// that ends by starting it.
func StartBinary(t *testing.T, path, dir string, env map[string]string) *Proxy {
	t.Helper()
	if dir == "" {
		dir = t.TempDir()
	}
	p := &Proxy{Dir: dir, Log: &logBuffer{}}
	settings := map[string]string{
		"WAVEPROXY_HTTP_ADDR": "127.0.0.1:0", "WAVEPROXY_STORAGE_DIR": dir,
		"WAVEPROXY_LOG_FORMAT": "json", "WAVEPROXY_LOG_LEVEL": "debug", "WAVEPROXY_HTTP_DEBUG_ADDR": "127.0.0.1:0",
		"WAVEPROXY_LIMITS_SUBMITS": "0", // tests submit more than the default limits allow
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
	p.PID = cmd.Process.Pid
	ready, drained := make(chan string, 1), make(chan struct{})
	go p.follow(stderr, ready, drained)
	var once sync.Once
	p.Stop = func() {
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
	p.Kill = func() {
		once.Do(func() {
			_ = cmd.Process.Kill()
			<-drained
			_ = cmd.Wait()
		})
	}
	t.Cleanup(func() {
		metrics := p.Metrics(t)
		p.Stop()
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

// follow reads the log until it ends. The line "serving" has the server's
// address.
func (p *Proxy) follow(r io.Reader, ready chan<- string, drained chan<- struct{}) {
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
			p.DebugURL = "http://" + line.Addr // logged before "serving", so it is set when StartProxy returns
		case "serving":
			ready <- line.Host
		}
	}
}

// Metrics returns the text of /metrics, or nil when the server has been stopped.
func (p *Proxy) Metrics(t *testing.T) []byte {
	t.Helper()
	resp, err := http.Get(p.DebugURL + "/metrics")
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

// Address returns the address where the server listens. It differs from the
// public URL.
func (p *Proxy) Address(t *testing.T) string {
	t.Helper()
	for text := range strings.Lines(p.Log.String()) {
		var line struct{ Msg, Addr string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "serving" {
			return line.Addr
		}
	}
	t.Fatalf("the log does not have the address where the server listens:\n%s", p.Log)
	return ""
}
