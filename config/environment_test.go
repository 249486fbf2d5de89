package config

import (
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestEnvironment(t *testing.T) {
	path := write(t, "c.yml", "log: {level: warn, format: json}\nregistries: {quay.io: {}, ghcr.io: {}}\ntokens: {keys: [{key: "+testKey+"}]}\n")
	c, err := Load(path, []string{
		"WAVEPROXY_LOG_LEVEL=debug",
		"WAVEPROXY_LOG_FORMAT=", // not set
		"WAVEPROXY_HTTP_ADDR=127.0.0.1:8080",
		"WAVEPROXY_HTTP_TLS_KEY=config.go",
		"WAVEPROXY_HTTP_TLS_CERTIFICATE=config.go",
		"WAVEPROXY_STORAGE_DIR=null", // not YAML
		"WAVEPROXY_TOKENS_TTL=90m",
		"WAVEPROXY_TOKENS_KEYS=[]",
		`WAVEPROXY_REGISTRIES={"index.docker.io": {"plain_http": true, "username": "u", "password": "1234"}}`,
		"WAVEPROXY_DOCKER_CONFIG=config.go",
		"WAVEPROXY_API_MAX_BODY=10MB",
		"WAVEPROXY_API_ADMINS={ops: " + testHash + "}",
		"WAVEPROXY_API_BUILDS_FORWARD=https://wave.example.org/",
		"WAVEPROXY_LIMITS_LAYERS=99",
		"WAVEPROXY_SERVER=http://localhost:1",
		"WAVEPROXY_REQUIRE_ENGINES=1",
		"WAVEPROXY_CONFIG=" + path,
		// Kubernetes sets these variables for Services named waveproxy and
		// waveproxy-http.
		"WAVEPROXY_SERVICE_HOST=10.0.0.1",
		"WAVEPROXY_SERVICE_PORT=9090",
		"WAVEPROXY_SERVICE_PORT_HTTP=9090",
		"WAVEPROXY_PORT=tcp://10.0.0.1:9090",
		"WAVEPROXY_PORT_9090_TCP=tcp://10.0.0.1:9090",
		"WAVEPROXY_PORT_9090_TCP_PROTO=tcp",
		"WAVEPROXY_HTTP_PORT=tcp://10.0.0.1:9090",
		"WAVEPROXY_HTTP_PORT_9090_TCP_ADDR=10.0.0.1",
		"HOME=/nowhere",
		"OTHER",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Log.Level, want.Log.Format = Level{slog.LevelDebug}, JSON
	want.HTTP.Addr, want.HTTP.Host = "127.0.0.1:8080", URL{"https", "localhost:8080"}
	want.HTTP.TLS.Key, want.HTTP.TLS.Certificate = "config.go", "config.go"
	want.Storage.Dir = "null"
	want.Tokens.TTL = 90 * time.Minute
	want.Tokens.Keys = []TokenKey{}
	want.Registries = map[string]Registry{"docker.io": {PlainHTTP: true, Login: Login{Username: "u", Password: "1234"}}}
	want.DockerConfig = "config.go"
	want.API.MaxBody = 10e6
	want.API.Admins = map[string]Secret{"ops": testHash}
	want.API.Builds.Forward = URL{"https", "wave.example.org"}
	want.Limits.Layers = 99
	if diff := cmp.Diff(want, c); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadEnvironment(t *testing.T) {
	_, err := Load("", []string{
		"WAVEPROXY_HTTP_PORT=8080",
		"WAVEPROXY_LIMITS_LAYERS=many",
		"WAVEPROXY_PASSWORD=hunter2",
		`WAVEPROXY_REGISTRIES={"quay.io": {"pasword": "hunter2"}}`,
		"WAVEPROXY_TOKENS_KEYS=hunter2",
	})
	checkLines(t, err, "", []string{
		"WAVEPROXY_HTTP_PORT: unknown variable: no key of the configuration has this name",
		`WAVEPROXY_LIMITS_LAYERS: limits.layers: "many" is not a whole number`,
		"WAVEPROXY_PASSWORD: unknown variable: no key of the configuration has this name",
		"WAVEPROXY_REGISTRIES:1: registries.quay.io.pasword: unknown key, want one of alias, blobs, ca, client_cert, client_key, files, identity_token, identity_token_env, identity_token_file, password, password_env, password_file, plain_http, proxy, url, username",
		"WAVEPROXY_TOKENS_KEYS:1: tokens.keys: want a list",
	})
}

func TestDefaultHost(t *testing.T) {
	tests := []struct {
		addr string
		tls  bool
		want string
	}{
		{":9090", false, "http://localhost:9090"},
		{"0.0.0.0:80", false, "http://localhost:80"},
		{"[::1]:9090", true, "https://localhost:9090"},
		{"10.0.0.7:9090", false, "http://10.0.0.7:9090"},
		{"wave.local:443", true, "https://wave.local:443"},
		{"127.0.0.1:0", false, ""},
		{"9090", false, ""},
	}
	for _, test := range tests {
		if got := defaultHost(test.addr, test.tls).String(); got != test.want {
			t.Errorf("defaultHost(%q, %v) = %q, want %q", test.addr, test.tls, got, test.want)
		}
	}
}

// TestNoDockerConfigByDefault: the Docker login of the user that starts the
// server is not used for clients, even if its file exists.
func TestNoDockerConfigByDefault(t *testing.T) {
	home := t.TempDir()
	if err := os.Mkdir(home+"/.docker", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(home+"/.docker/config.json", []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := Load("", []string{"HOME=" + home, "DOCKER_CONFIG=" + home + "/.docker"})
	if err != nil {
		t.Fatal(err)
	}
	if c.DockerConfig != "" {
		t.Errorf("%s is read without being asked for", c.DockerConfig)
	}
}
