package soak

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"
)

var (
	length  = flag.Duration("length", 3*time.Second, "how long each attack takes, and the honest work before it")
	only    = flag.String("only", "", "run only the attacks whose name contains this")
	latency = flag.Bool("latency", false, "fail if honest clients wait longer than allowed, which is for a quiet machine")
	program = flag.String("binary", "", "the server to test; it is built when this is empty")
)

const (
	// maxMemory is the largest resident set that the server may have, and
	// maxHelpers the largest number of credential helpers at once.
	maxMemory  = 400 << 20
	maxHelpers = 16
	// maxSlower is the factor by which an attack may lengthen the honest clients'
	// waits. noise is the time that a busy machine of two cores adds to any wait.
	maxSlower = 2
	noise     = 30 * time.Millisecond
)

// soak is what honest clients know, and attackers in a process of their own.
type soak struct {
	known
	server     *server
	good, evil *registry // evil is in the attacker's process
	foreign    atomic.Int64

	mu        sync.Mutex
	helpers   int
	submitted int
	version   int
}

// freshen gives the honest clients' image another layer, which decoys list, too.
func (s *soak) freshen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.Layers[0] = s.good.layerOf("team/app", 300<<10)
	s.version++
	s.good.publish("team/app", s.tag(), "honest", s.Layers...)
}

// tag is the honest image's version. The caller has locked s.mu.
func (s *soak) tag() string { return fmt.Sprint("v", s.version) }

// TestSoak prints the table and fails if the server dies, an honest client fails
// or waits too long, memory grows too far, or a tenant's bytes reach the
// attacker.
func TestSoak(t *testing.T) {
	s := start(t)
	fmt.Printf("%-32s %15s %15s %7s %9s %6s %7s %8s\n", "attack", "before p50/p99", "during p50/p99", "failed", "peak MiB", "files", "open", "foreign")
	for _, a := range attacks() {
		if !strings.Contains(a.name, *only) {
			continue
		}
		t.Run(a.name, func(t *testing.T) { s.round(t, a) })
		if !s.server.alive() {
			t.Fatalf("the server has died during %q: %s", a.name, tail(s.server.log.Name()))
		}
	}
}

func (s *soak) round(t *testing.T, a attack) {
	s.freshen()
	before := s.work(t.Context(), *length)
	s.freshen() // what the attacker asks for first is not in the cache
	s.server.resetPeak()
	stored := s.server.files()
	attacker := s.startAttacker(t, a.name)
	time.Sleep(time.Second)
	during := s.work(t.Context(), *length)
	open := s.server.descriptors()
	found := attacker.stop(t)
	peak := s.server.peakMemory()
	fmt.Printf("%-32s %7d/%-7d %7d/%-7d %7d %9d %6d %7d %8d\n", a.name,
		before.percentile(50).Milliseconds(), before.percentile(99).Milliseconds(),
		during.percentile(50).Milliseconds(), during.percentile(99).Milliseconds(),
		len(during.failed), peak>>20, s.server.files()-stored, open, found.Foreign)
	for _, err := range append(before.failed, during.failed...) {
		t.Errorf("an honest client: %v", err)
	}
	if found.Requests == 0 {
		t.Error("the attacker sent no request, so nothing was tested")
	}
	if found.Foreign > 0 {
		t.Errorf("the attacker got %d bytes of another tenant", found.Foreign)
	}
	if peak > maxMemory {
		t.Errorf("the server took %d MiB, more than %d", peak>>20, int64(maxMemory)>>20)
	}
	if b, d := before.percentile(99), during.percentile(99); *latency && d > maxSlower*b+noise {
		t.Errorf("honest clients waited %s, and %s without the attack", d, b)
	}
	if found.Helpers > maxHelpers {
		t.Errorf("%d credential helpers ran at once", found.Helpers)
	}
}

func tail(file string) string {
	data, _ := os.ReadFile(file)
	return string(data[max(0, len(data)-2000):])
}

// start builds the binary, starts it and the registries, and submits the honest
// clients' images.
func start(t *testing.T) *soak {
	t.Helper()
	binary := *program
	if binary == "" {
		binary = filepath.Join(t.TempDir(), "waveproxy")
		if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/waveproxy").CombinedOutput(); err != nil {
			t.Fatalf("build: %v\n%s", err, out)
		}
	}
	s := &soak{known: known{Secret: map[digest.Digest]int64{}, CacheSize: 64 << 20}}
	var err error
	if s.good, err = startRegistry("127.0.0.1:0", 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.good.close)
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	s.Good, s.Evil = s.good.host, "127.0.0.2:"+port
	s.Layers = []ocispec.Descriptor{s.good.layerOf("team/app", 300<<10), s.good.layerOf("team/app", 1<<20)}
	s.good.publish("team/app", "1", "honest", s.Layers...)
	private := s.good.layerOf("tenant/private", 500<<10)
	s.Secret[private.Digest] = private.Size
	s.good.publish("tenant/private", "1", "private", private)
	dir := t.TempDir()
	if s.server, err = startServer(binary, dir, s.config(t, dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.server.stop)
	s.URL, s.PID = s.server.url, s.server.cmd.Process.Pid
	c := newClient("127.0.1.1", s.server.url, "honest0")
	defer c.CloseIdleConnections()
	if s.Token, err = c.submit(t.Context(), submission(s.good.host+"/team/app:1", "HONEST=1")); err != nil {
		t.Fatal(err)
	}
	tenant, err := c.submit(t.Context(), submission(s.good.host+"/tenant/private:1", "TENANT=1"))
	if err != nil {
		t.Fatal(err)
	}
	for _, repository := range []string{s.Token, tenant} {
		if err := c.pull(t.Context(), repository, "1"); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// config writes a configuration that requires a login to pull, with a cache,
// recipes and a slow credential helper.
func (s *soak) config(t *testing.T, dir string) string {
	t.Helper()
	var users strings.Builder
	for _, user := range []string{"honest0", "honest1", "honest2", "honest3", "mallory"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(user+"'s password"), 8)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&users, "%s:%s\n", user, hash)
	}
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	helper := "#!/bin/sh\nsleep 0.3\necho '{\"Username\":\"u\",\"Secret\":\"p\"}'\n"
	write("docker-credential-soak", helper, 0o755)
	dockerConfig := write("docker.json", `{"credHelpers":{"`+s.good.host+`":"soak"}}`, 0o600)
	return string(encode(map[string]any{
		"log":      map[string]any{"level": "warn"},
		"registry": map[string]any{"auth": "basic", "htpasswd": write("htpasswd", users.String(), 0o600)},
		"registries": map[string]any{
			s.good.host: map[string]any{"plain_http": true, "alias": "good.test"},
			s.Evil:      map[string]any{"plain_http": true, "alias": "evil.test"},
		},
		"cache":       map[string]any{"size": fmt.Sprint(s.CacheSize), "dir": filepath.Join(dir, "cache")},
		"credentials": map[string]any{"helped": map[string]any{"docker_config": dockerConfig}},
		"recipes": map[string]any{
			"tools":  map[string]any{"env": []string{"TOOLS=1"}},
			"helped": map[string]any{"env": []string{"HELPED=1"}, "credentials": []string{"helped"}},
		},
	}))
}
