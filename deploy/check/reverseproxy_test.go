package check

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

// certificates writes the files that the examples name, in a directory that exists.
func certificates(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	certificate, key := selfSigned(t)
	name := filepath.Join(dir, "wave.example.org")
	writeFile(t, name+".crt", certificate)
	writeFile(t, name+".key", key)
	writeFile(t, name+".pem", certificate+key)
	return dir
}

func TestNginx(t *testing.T) {
	nginx := tool(t, "nginx", "nginx-light")
	// Even a check binds the port, and other programs may have 443.
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free.Close()
	dir := certificates(t)
	server := replace(t, readFile(t, "../reverse-proxy/nginx.conf"), "/etc/nginx/tls", dir)
	server = replace(t, server, "listen 443 ", "listen "+free.Addr().String()+" ")
	var temporary strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temporary, "%s_temp_path %s;\n", kind, filepath.Join(dir, kind))
	}
	text := fmt.Sprintf("pid %s;\nevents {}\nhttp {\naccess_log off;\n%s\ninclude %s;\n}\n", filepath.Join(dir, "pid"), &temporary, writeFile(t, filepath.Join(dir, "server.conf"), server))
	said := wantSuccess(t, nginx, "-t", "-p", dir, "-e", "stderr", "-c", writeFile(t, filepath.Join(dir, "nginx.conf"), text))
	if strings.Contains(said, "[warn]") && !strings.Contains(said, `the "user" directive`) {
		t.Errorf("nginx says:\n%s", said)
	}
}

func TestHAProxy(t *testing.T) {
	haproxy := tool(t, "haproxy", "haproxy")
	dir := certificates(t)
	text := replace(t, readFile(t, "../reverse-proxy/haproxy.cfg"), "/etc/haproxy/tls", dir)
	if said := wantSuccess(t, haproxy, "-c", "-f", writeFile(t, filepath.Join(dir, "haproxy.cfg"), text)); strings.Contains(said, "[WARNING]") {
		t.Errorf("haproxy says:\n%s", said)
	}
}

// traefikStatic has the keys of Traefik's static configuration that the example uses,
// and traefikDynamic the keys of the dynamic one. Traefik itself cannot be built from the module
// proxy alone.
type (
	traefikStatic struct {
		EntryPoints map[string]struct {
			Address   string `json:"address"`
			Transport struct {
				RespondingTimeouts struct {
					ReadTimeout  string `json:"readTimeout"`
					WriteTimeout string `json:"writeTimeout"`
				} `json:"respondingTimeouts"`
			} `json:"transport"`
		} `json:"entryPoints"`
		Providers struct {
			File struct {
				Filename string `json:"filename"`
			} `json:"file"`
		} `json:"providers"`
	}
	traefikDynamic struct {
		HTTP struct {
			Routers map[string]struct {
				Rule        string   `json:"rule"`
				EntryPoints []string `json:"entryPoints"`
				Service     string   `json:"service"`
				TLS         struct{} `json:"tls"`
			} `json:"routers"`
			Services map[string]struct {
				LoadBalancer struct {
					Servers []struct {
						URL string `json:"url"`
					} `json:"servers"`
					HealthCheck struct {
						Path     string `json:"path"`
						Interval string `json:"interval"`
						Timeout  string `json:"timeout"`
					} `json:"healthCheck"`
					ServersTransport string `json:"serversTransport"`
				} `json:"loadBalancer"`
			} `json:"services"`
			ServersTransports map[string]struct {
				ForwardingTimeouts struct {
					DialTimeout string `json:"dialTimeout"`
				} `json:"forwardingTimeouts"`
			} `json:"serversTransports"`
		} `json:"http"`
		TLS struct {
			Certificates []struct {
				CertFile string `json:"certFile"`
				KeyFile  string `json:"keyFile"`
			} `json:"certificates"`
		} `json:"tls"`
	}
)

// TestTraefik checks that there are no other keys, and that every name in one part is
// defined in another.
func TestTraefik(t *testing.T) {
	var static traefikStatic
	var dynamic traefikDynamic
	if err := yaml.UnmarshalStrict([]byte(readFile(t, "../reverse-proxy/traefik.yml")), &static); err != nil {
		t.Fatal(err)
	}
	readFile(t, filepath.Join("../reverse-proxy", filepath.Base(static.Providers.File.Filename)))
	if err := yaml.UnmarshalStrict([]byte(readFile(t, "../reverse-proxy/traefik-waveproxy.yml")), &dynamic); err != nil {
		t.Fatal(err)
	}
	router := dynamic.HTTP.Routers["waveproxy"]
	entry, ok := static.EntryPoints[router.EntryPoints[0]]
	if !ok {
		t.Fatalf("there is no entry point %s", router.EntryPoints[0])
	}
	timeouts := entry.Transport.RespondingTimeouts
	// The server itself allows five minutes for a body.
	if read, err := time.ParseDuration(timeouts.ReadTimeout); err != nil || read < 5*time.Minute || timeouts.WriteTimeout != "0s" {
		t.Errorf("large bodies would be cut: %+v (%v)", timeouts, err)
	}
	service, ok := dynamic.HTTP.Services[router.Service]
	if !ok || service.LoadBalancer.HealthCheck.Path != "/readyz" {
		t.Errorf("the service %s is %+v", router.Service, service)
	}
	if _, ok := dynamic.HTTP.ServersTransports[service.LoadBalancer.ServersTransport]; !ok {
		t.Errorf("there is no transport %s", service.LoadBalancer.ServersTransport)
	}
}
