package acr

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

const (
	registry = "team.azurecr.io"
	tenant   = "11111111-1111-1111-1111-111111111111"
	client   = "22222222-2222-2222-2222-222222222222"
)

var (
	clientSecret = "abc8Q~hunter2"
	assertion    = cloudtest.Secret("eyJassertion")
	header       = "identity-header"
)

var servicePrincipal = Options{TenantID: tenant, ClientID: client, ClientSecret: clientSecret}

// standIn stands for Entra ID, the metadata services and the registries.
type standIn struct {
	*cloudtest.Server                   // over TLS
	metadata          *cloudtest.Server // without
	mu                sync.Mutex
	life              time.Duration // of refresh tokens
	refuse            map[string]func(http.ResponseWriter)
	access, refresh   string
}

func newAzure(t *testing.T) *standIn {
	t.Helper()
	s := &standIn{life: 3 * time.Hour, refuse: map[string]func(http.ResponseWriter){}, access: cloudtest.Secret("eyJaccess")}
	s.Server = cloudtest.NewTLSServer(t, s.answer)
	s.metadata = cloudtest.NewServer(t, s.answer)
	var err error
	claims := jwt.RegisteredClaims{ExpiresAt: jwt.NewNumericDate(time.Now().Add(s.life)), ID: cloudtest.Secret("id")}
	if s.refresh, err = jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte("key")); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *standIn) secrets() []string {
	return []string{clientSecret, assertion, s.access, s.refresh, header}
}

// call returns the last part of a request's path: "token", "exchange".
func call(r cloudtest.Request) string { return r.Path[strings.LastIndexByte(r.Path, '/')+1:] }

// calls returns the requests so far whose call has the name.
func (s *standIn) calls(name string) (all []cloudtest.Request) {
	for _, r := range append(s.metadata.Requests(), s.Requests()...) {
		if call(r) == name {
			all = append(all, r)
		}
	}
	return all
}

func (s *standIn) answer(w http.ResponseWriter, r cloudtest.Request) {
	s.mu.Lock()
	refuse := s.refuse[call(r)]
	s.mu.Unlock()
	switch name := call(r); {
	case refuse != nil:
		refuse(w)
	case name == "openid-configuration":
		cloudtest.JSON(w, http.StatusOK, fmt.Sprintf(`{"token_endpoint":"https://%s/%s/oauth2/v2.0/token",`+
			`"authorization_endpoint":"https://%[1]s/%[2]s/oauth2/v2.0/authorize","issuer":"https://%[1]s/%[2]s/v2.0"}`, r.Host, tenant))
	case name == "token":
		// A minute is too short for the library to keep the token. It would keep a
		// managed identity's token as long as the process lives.
		cloudtest.JSON(w, http.StatusOK, fmt.Sprintf(`{"token_type":"Bearer","expires_in":"60","expires_on":"%d","access_token":%q}`,
			time.Now().Add(time.Minute).Unix(), s.access))
	case name == "exchange":
		cloudtest.JSON(w, http.StatusOK, fmt.Sprintf(`{"refresh_token":%q}`, s.refresh))
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func newTest(t *testing.T, s *standIn, o Options) (*keychain, *cloudtest.Clock) {
	t.Helper()
	if err := o.validate(); err != nil {
		t.Fatal(err)
	}
	k, clock := newKeychain(o), &cloudtest.Clock{}
	k.cache = cloud.NewCache(clock.Now)
	k.client = cloudtest.Client(map[string]*cloudtest.Server{
		"login.microsoftonline.com:443":     s.Server,
		"login.microsoftonline.us:443":      s.Server,
		"login.chinacloudapi.cn:443":        s.Server,
		"team.azurecr.io:443":               s.Server,
		"team-0a1b.eu.azurecr.io:443":       s.Server,
		"team.azurecr.us:443":               s.Server,
		"team.azurecr.cn:443":               s.Server,
		"169.254.169.254:80":                s.metadata,
		s.metadata.Listener.Addr().String(): s.metadata,
	})
	return k, clock
}

func want(t *testing.T, s *standIn, k auth.Keychain, registry string) {
	t.Helper()
	got, err := k.Credential(t.Context(), auth.Target{Registry: registry, Repository: "team/app"})
	if err != nil {
		t.Fatal(err)
	}
	if got != (auth.Credential{Username: "00000000-0000-0000-0000-000000000000", IdentityToken: s.refresh, Source: "Azure ACR"}) {
		t.Errorf("got %v from %q", got, got.Source)
	}
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
