package gar

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

const registry = "europe-docker.pkg.dev"

var (
	access     = cloudtest.Secret("ya29.access")
	subject    = cloudtest.Secret("eyJsubject")
	privateKey = sync.OnceValue(func() string {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			panic(err)
		}
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	})
)

func secrets() []string {
	lines := strings.Split(privateKey(), "\n")
	return []string{access, subject, "PRIVATE KEY", lines[1]}
}

// standIn stands for Google's token service (/token), its exchange for workload
// identity federation (/exchange) and the metadata server.
type standIn struct {
	*cloudtest.Server
	mu     sync.Mutex
	life   int // of tokens, in seconds
	refuse func(http.ResponseWriter)
}

func newGoogle(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{life: 3600}
	s.Server = cloudtest.NewServer(t, s.answer)
	return s
}

func (s *standIn) answer(w http.ResponseWriter, r cloudtest.Request) {
	s.mu.Lock()
	refuse, life := s.refuse, s.life
	s.mu.Unlock()
	switch {
	case strings.HasSuffix(r.Path, "/project-id"):
		fmt.Fprint(w, "project")
	case refuse != nil:
		refuse(w)
	case r.Path == "/token" || r.Path == "/exchange" || r.Path == "/computeMetadata/v1/instance/service-accounts/default/token":
		cloudtest.JSON(w, http.StatusOK, fmt.Sprintf(
			`{"access_token":%q,"token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:access_token","expires_in":%d}`, access, life))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

// tokens returns the requests for tokens so far.
func (s *standIn) tokens() (all []cloudtest.Request) {
	for _, r := range s.Requests() {
		if !strings.HasSuffix(r.Path, "/project-id") {
			all = append(all, r)
		}
	}
	return all
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (s *standIn) keyFile(t *testing.T) string {
	return writeJSON(t, map[string]string{
		"type": "service_account", "client_email": "pull@project.iam.gserviceaccount.com",
		"private_key": privateKey(), "private_key_id": "1", "token_uri": s.URL + "/token",
	})
}

func (s *standIn) federationFile(t *testing.T) string {
	return writeJSON(t, map[string]any{
		"type": "external_account", "audience": "//iam.googleapis.com/pool", "token_url": s.URL + "/exchange",
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt",
		"credential_source":  map[string]string{"file": write(t, subject)},
	})
}

func writeJSON(t *testing.T, v any) string {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return write(t, string(data))
}

func newTest(t *testing.T, o Options) (*keychain, *cloudtest.Clock) {
	t.Helper()
	if _, err := New(o); err != nil {
		t.Fatal(err)
	}
	k, clock := newKeychain(o), &cloudtest.Clock{}
	k.cache = cloud.NewCache(clock.Now)
	k.client = cloudtest.Client(nil)
	return k, clock
}

func want(t *testing.T, k auth.Keychain, registry string) {
	t.Helper()
	got, err := k.Credential(t.Context(), auth.Target{Registry: registry, Repository: "project/app"})
	if err != nil {
		t.Fatal(err)
	}
	if got != (auth.Credential{Username: "oauth2accesstoken", Password: access, Source: "Google Artifact Registry"}) {
		t.Errorf("got %v from %q", got, got.Source)
	}
}
