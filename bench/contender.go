//go:build linux

package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
)

// setup is how the servers of a measurement are started.
type setup struct {
	tls      bool   // to clients and to the upstream
	cold     bool   // with nothing of the image in a cache
	upstream string // scheme and address of the upstream
}

// contender is one way from a client to an upstream's images.
type contender struct {
	name  string
	cache bool // keeps the blobs that pass
	start func(ctx context.Context, l *lab, in setup, dir string) (*server, error)
}

// server is a running contender.
type server struct {
	*process
	base       string // scheme, address and port
	repository string // the name of the typical image there
}

func (s *server) address() string {
	_, address, _ := strings.Cut(s.base, "://")
	return address
}

// blobPath returns the path of a blob in the repository.
func blobPath(repository string, l layer) string {
	return "/v2/" + repository + "/blobs/" + l.Digest.String()
}

// The contenders, in the order of the table.
var (
	direct       = &contender{name: "direct", start: startDirect}
	nginx        = &contender{name: "nginx", start: startReverseProxy}
	nginxCaching = &contender{name: "nginx-cache", cache: true, start: startCachingProxy}
	distribution = &contender{name: "distribution", cache: true, start: startDistribution}
	waveproxy    = &contender{name: "waveproxy", start: startWaveproxy}
	waveCaching  = &contender{name: "waveproxy-cache", cache: true, start: startCachingWaveproxy}
)

// startDirect returns the upstream itself, which already runs in the lab.
func startDirect(_ context.Context, l *lab, in setup, _ string) (*server, error) {
	return &server{process: l.upstream, base: in.upstream, repository: repository}, nil
}

func startReverseProxy(ctx context.Context, l *lab, in setup, _ string) (*server, error) {
	return l.serveNginx(ctx, in, "")
}

func startCachingProxy(ctx context.Context, l *lab, in setup, dir string) (*server, error) {
	return l.serveNginx(ctx, in, nginxCache(dir))
}

func (l *lab) serveNginx(ctx context.Context, in setup, more string) (*server, error) {
	address, base := l.address(in)
	p, err := l.reverseProxy(in, address, more)
	if err != nil {
		return nil, err
	}
	return &server{p, base, repository}, l.ready(ctx, p, base)
}

// startDistribution runs the pull-through cache of distribution's registry.
func startDistribution(ctx context.Context, l *lab, in setup, dir string) (*server, error) {
	if in.tls {
		return nil, errors.New("distribution is not measured with TLS")
	}
	address, base := l.address(in)
	config := filepath.Join(dir, "config.yml")
	text := fmt.Sprintf(`version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: %q}, maintenance: {uploadpurging: {enabled: false}}}
http: {addr: %q}
proxy: {remoteurl: %q}
`, filepath.Join(dir, "storage"), address, in.upstream)
	if err := os.WriteFile(config, []byte(text), 0o644); err != nil {
		return nil, err
	}
	// Without this it looks for a collector of traces.
	env := []string{"OTEL_TRACES_EXPORTER=none"}
	p, err := launch("distribution", filepath.Join(dir, "log"), env, filepath.Join(l.dir, "registry"), "serve", config)
	if err != nil {
		return nil, err
	}
	return &server{p, base, repository}, l.ready(ctx, p, base)
}

func startWaveproxy(ctx context.Context, l *lab, in setup, dir string) (*server, error) {
	return l.serveWaveproxy(ctx, in, dir)
}

// cacheSetting turns waveproxy's cache on.
const cacheSetting = "WAVEPROXY_CACHE_SIZE=2GiB"

func startCachingWaveproxy(ctx context.Context, l *lab, in setup, dir string) (*server, error) {
	return l.serveWaveproxy(ctx, in, dir, cacheSetting)
}

func (l *lab) serveWaveproxy(ctx context.Context, in setup, dir string, settings ...string) (*server, error) {
	address, base := l.address(in)
	hub := map[string]string{"url": in.upstream}
	env := append([]string{
		"WAVEPROXY_HTTP_ADDR=" + address,
		"WAVEPROXY_STORAGE_DIR=" + filepath.Join(dir, "storage"),
		"WAVEPROXY_LOG_LEVEL=error",
		"WAVEPROXY_API_MAX_BODY=256MiB",
		// All clients of the bench have one address.
		"WAVEPROXY_LIMITS_SUBMITS=0", "WAVEPROXY_LIMITS_FILES=0", "WAVEPROXY_LIMITS_DOCUMENTS=0",
		"WAVEPROXY_LIMITS_DESCRIPTORS=0", "WAVEPROXY_LIMITS_UNPACKED=0",
	}, settings...)
	if in.tls {
		hub["ca"] = l.certificate
		env = append(env, "WAVEPROXY_HTTP_TLS_CERTIFICATE="+l.certificate, "WAVEPROXY_HTTP_TLS_KEY="+l.key)
	}
	registries, err := json.Marshal(map[string]any{"docker.io": hub})
	if err != nil {
		return nil, err
	}
	env = append(env, "WAVEPROXY_REGISTRIES="+string(registries))
	p, err := launch("waveproxy", filepath.Join(dir, "log"), env, filepath.Join(l.dir, "waveproxy"), "serve")
	if err != nil {
		return nil, err
	}
	s := &server{process: p, base: base}
	if err := l.ready(ctx, p, base); err != nil {
		return s, err
	}
	if in.upstream == l.slow.base {
		return s, nil // the measurement itself augments images there
	}
	s.repository, err = l.augment(ctx, s, repository+":latest", l.images.small)
	return s, err
}

// augment adds a layer to an image and returns the repository of the result, without
// host and tag.
func (l *lab) augment(ctx context.Context, s *server, image string, add layer) (string, error) {
	body, err := l.submission(image, add)
	if err != nil {
		return "", err
	}
	return l.submit(ctx, s, body)
}

// submission is a request to add a layer to an image.
func (l *lab) submission(image string, add layer) ([]byte, error) {
	archive, err := os.ReadFile(l.images.path(add.Digest))
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"containerImage": image, "containerConfig": map[string]any{
		"layers": []any{map[string]any{
			"location":   "data:" + base64.StdEncoding.EncodeToString(archive),
			"gzipDigest": add.Digest, "gzipSize": add.Size, "tarDigest": add.diffID,
		}},
	}})
}

// submit posts a request to have an image augmented.
func (l *lab) submit(ctx context.Context, s *server, body []byte) (string, error) {
	return l.submitBy(ctx, l.client, s, body)
}

// submitBy is submit with another client.
func (l *lab) submitBy(ctx context.Context, client *http.Client, s *server, body []byte) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.base+"/v1alpha2/container", bytes.NewReader(body))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	if err != nil {
		return "", err
	}
	var a struct{ TargetImage string }
	if err := json.Unmarshal(answer, &a); err != nil || resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("augment: %s: %.300s", resp.Status, answer)
	}
	_, name, _ := strings.Cut(a.TargetImage, "/")
	name, _, tagged := strings.Cut(name, ":")
	if !tagged {
		return "", fmt.Errorf("augment: the image is called %q", a.TargetImage)
	}
	return name, nil
}
