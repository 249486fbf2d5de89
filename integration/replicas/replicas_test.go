package replicas

import (
	"bytes"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
)

// replicas are two servers that share a storage, behind nginx with the settings
// in deploy. The embedded proxy has the URL of nginx.
type replicas struct {
	harness.Proxy
	one, two *harness.Proxy
	https    string // host:port
	errors   *bytes.Buffer
}

// nginxSettings are settings that a distribution's nginx.conf may have around
// ours. Its compression must not affect our answers.
const nginxSettings = `user root;
daemon off;
pid pid;
error_log stderr warn;
events { worker_connections 1024; }
http {
	access_log off;
	gzip on;
	gzip_types *;
	gzip_proxied any;
	client_body_temp_path client_body;
	proxy_temp_path proxy;
	fastcgi_temp_path fastcgi;
	uwsgi_temp_path uwsgi;
	scgi_temp_path scgi;
	include server.conf;
}
`

func findNginx(t *testing.T) (path string, ok bool) {
	t.Helper()
	path, err := exec.LookPath("nginx")
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/nginx") // /usr/sbin is not on every user's PATH
	}
	if err != nil {
		missing := t.Logf
		if engine.Required() {
			missing = t.Fatalf
		}
		missing("missing tool nginx: %v", err)
	}
	return path, err == nil
}

// startReplicas starts nginx and the two servers. nginx gets the certificate and
// its key.
func startReplicas(t *testing.T, nginx string, settings map[string]string, certificate, key string) *replicas {
	t.Helper()
	var listeners [2]net.Listener // hold two ports until both are known
	for i := range listeners {
		var err error
		if listeners[i], err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			t.Fatal(err)
		}
	}
	plain, secure := listeners[0].Addr().String(), listeners[1].Addr().String()
	_, port, _ := net.SplitHostPort(plain)
	dir := t.TempDir()
	r := &replicas{Proxy: harness.Proxy{URL: "http://localhost:" + port, Host: "localhost:" + port, Dir: dir}, https: secure, errors: &bytes.Buffer{}}
	settings["WAVEPROXY_HTTP_HOST"], settings["WAVEPROXY_HTTP_PROXIES"] = r.URL, "[127.0.0.1]"
	r.one, r.two = harness.StartProxy(t, dir, settings), harness.StartProxy(t, dir, settings)

	text, err := os.ReadFile("../../deploy/reverse-proxy/nginx.conf")
	if err != nil {
		t.Fatal(err)
	}
	server := string(text)
	for _, change := range [][2]string{
		{"server 127.0.0.1:9090;", "server " + r.one.Address(t) + ";"},
		{"#server 10.0.0.8:9090;", "server " + r.two.Address(t) + ";"},
		{"listen 443 ssl;", "listen " + plain + "; listen " + secure + " ssl;"},
		{"server_name wave.example.org;", "server_name localhost;"},
		{"/etc/nginx/tls/wave.example.org.crt", certificate},
		{"/etc/nginx/tls/wave.example.org.key", key},
	} {
		if !strings.Contains(server, change[0]) {
			t.Fatalf("there is no %q in\n%s", change[0], server)
		}
		server = strings.ReplaceAll(server, change[0], change[1])
	}
	for _, l := range listeners {
		l.Close()
	}
	r.runNginx(t, nginx, server)
	return r
}

// runNginx starts nginx and stops it when the test ends.
func (r *replicas) runNginx(t *testing.T, nginx, server string) {
	t.Helper()
	dir := t.TempDir()
	harness.WriteFile(t, filepath.Join(dir, "server.conf"), server, 0o600)
	harness.WriteFile(t, filepath.Join(dir, "nginx.conf"), nginxSettings, 0o600)
	cmd := exec.Command(nginx, "-p", dir, "-e", "stderr", "-c", filepath.Join(dir, "nginx.conf"))
	cmd.Stderr = r.errors
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Stop = func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
		defer timer.Stop()
		if err := cmd.Wait(); err != nil {
			t.Errorf("nginx ended with %v", err)
		}
		t.Logf("log of nginx:\n%s", r.errors)
		if strings.Contains(r.errors.String(), "buffered to a temporary file") {
			t.Error("bodies went through the disk")
		}
	}
	t.Cleanup(r.Stop)
	harness.WaitFor(t, 30*time.Second, func() bool {
		resp, err := r.Call(t.Context(), http.MethodGet, "/readyz", "")
		return err == nil && resp.Status == http.StatusOK
	})
}
