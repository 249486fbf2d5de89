package check

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"sigs.k8s.io/yaml"
)

var binaryDir string

func TestMain(m *testing.M) {
	status := m.Run()
	if binaryDir != "" {
		_ = os.RemoveAll(binaryDir)
	}
	os.Exit(status)
}

// binary builds waveproxy from the module above this one.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "waveproxy-bin-")
	if err != nil {
		return "", err
	}
	binaryDir = dir
	path := filepath.Join(dir, "waveproxy")
	cmd := exec.Command("go", "build", "-o", path, "./cmd/waveproxy")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

// config is the part of the server's configuration that the tests check.
type config struct {
	HTTP struct {
		Addr, Host string
		Debug      struct{ Addr string }
	}
	Storage struct{ Dir string }
	Tokens  struct{ Keys []struct{ File string } }
	Recipes map[string]any
}

func parseConfig(t *testing.T, text string) (c config) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(text), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

var secretFile = regexp.MustCompile(`/run/(secrets|credentials)/[^\s,}\]]+`)

// wantConfig makes the server check a configuration and the variables that come with
// it. The files of secrets are made in a temporary directory.
func wantConfig(t *testing.T, text string, environ ...string) config {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	move := func(text string) string {
		return secretFile.ReplaceAllStringFunc(text, func(name string) string {
			writeFile(t, root+name, strings.Repeat("c2VjcmV0", 6)) // good as a key and as a password
			return root + name
		})
	}
	cmd := exec.Command(path, "config", "check", "--config", writeFile(t, filepath.Join(root, "config.yml"), move(text)))
	cmd.Env = []string{}
	for _, e := range environ {
		cmd.Env = append(cmd.Env, move(e))
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("the server refuses the configuration: %v\n%s\n%s", err, errs.String(), text)
	}
	return parseConfig(t, strings.ReplaceAll(out.String(), root, ""))
}

// tool returns the path of a program from a package of the system. Without it the
// test is skipped, or fails where WAVEPROXY_REQUIRE_ENGINES is 1, as in CI.
func tool(t *testing.T, name, aptPackage string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		path, err = exec.LookPath("/usr/sbin/" + name) // not on every user's PATH
	}
	if err != nil {
		message := fmt.Sprintf("missing program %s (Debian: %s)", name, aptPackage)
		if os.Getenv("WAVEPROXY_REQUIRE_ENGINES") == "1" {
			t.Fatal(message)
		}
		t.Skip(message)
	}
	return path
}

// wantSuccess runs a program that must succeed, and returns its output.
func wantSuccess(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

func readFile(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func writeFile(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// replace returns the text with old replaced, and fails if old is not there.
func replace(t *testing.T, text, old, by string) string {
	t.Helper()
	if !strings.Contains(text, old) {
		t.Fatalf("there is no %q in\n%s", old, text)
	}
	return strings.ReplaceAll(text, old, by)
}

// selfSigned returns a certificate and its key, as PEM.
func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"wave.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}))
}
