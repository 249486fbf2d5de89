package attack

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

const (
	password      = "hunter2-of-the-registry"
	identityToken = "identity-token-of-the-registry"
	registryToken = "bearer-token-of-the-registry"
	platformToken = "platform-token-of-a-person"
)

var basicLogin = "Basic " + base64.StdEncoding.EncodeToString([]byte("ci:"+password))

// witness is a server that records all headers, URLs and bodies it receives.
type witness struct {
	*httptest.Server
	mu   sync.Mutex
	told []string
}

func newWitness(t *testing.T, start func(http.Handler) *httptest.Server, h http.Handler) *witness {
	t.Helper()
	w := &witness{}
	w.Server = start(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(io.LimitReader(r.Body, harness.MiB))
		r.Body = io.NopCloser(bytes.NewReader(body))
		headers, _ := json.Marshal(r.Header) // strings always can be
		w.mu.Lock()
		w.told = append(w.told, fmt.Sprintf("%s %s %s %s", r.Method, r.RequestURI, headers, body))
		w.mu.Unlock()
		h.ServeHTTP(rw, r)
	}))
	w.Config.ErrorLog = quiet
	t.Cleanup(w.Close)
	return w
}

// all returns what the witness received since the last call.
func (w *witness) all() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	told := w.told
	w.told = nil
	return told
}

func (w *witness) host() string { _, host, _ := strings.Cut(w.URL, "//"); return host }

// secrets returns the secrets that the witness received.
func secrets(told []string) (found []string) {
	for _, text := range told {
		for _, s := range []string{password, identityToken, registryToken, platformToken, basicLogin[len("Basic "):], `"Authorization"`, `"Cookie"`, `"Referer"`} {
			if strings.Contains(text, s) {
				found = append(found, s+" in "+text)
			}
		}
	}
	return found
}

// lure is a registry that receives our credential and tries to have it sent
// elsewhere. The first part of a repository's name says how, and next is the
// other server.
type lure struct {
	image      tinyImage
	self, next func() string
}

func (l lure) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	how, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/v2/"), "/")
	known := r.Header.Get("Authorization")
	challenge := func(text string) {
		w.Header().Set("Www-Authenticate", text)
		w.WriteHeader(http.StatusUnauthorized)
	}
	redirect := func(to string) {
		http.SetCookie(w, &http.Cookie{Name: "session", Value: password})
		w.Header().Set("Location", to)
		w.WriteHeader(http.StatusTemporaryRedirect)
	}
	isBlob, isConfig := strings.Contains(rest, "/blobs/"), strings.Contains(rest, harness.Sum(l.image.Config))
	scheme, how, _ := strings.Cut(how, "-")
	switch {
	case r.URL.Path == "/token" && r.FormValue("service") == "redirects":
		redirect(l.next() + "/token")
	case r.URL.Path == "/token":
		_, _ = fmt.Fprintf(w, `{"token": %q, "access_token": %q}`, registryToken, registryToken)
	case scheme == "basic" && known == "":
		challenge(`Basic realm="x"`)
	case scheme == "bearer" && known == "":
		challenge(fmt.Sprintf(`Bearer realm="%s/token",service="x"`, l.self()))
	case scheme == "realm" && known == "":
		challenge(fmt.Sprintf(`Bearer realm="%s/token",service=%q`, l.next(), how))
	case scheme == "redirected" && known == "":
		challenge(fmt.Sprintf(`Bearer realm="%s/token",service="redirects"`, l.self()))
	case how == "manifest" && !isBlob, how == "config" && isConfig, how == "layer" && isBlob && !isConfig:
		redirect(l.next() + r.URL.Path)
	default:
		l.image.ServeHTTP(w, r)
	}
}

// TestAttackCredentials has registries send the server elsewhere once they have
// its credential. The credential must stay with the origin that it is configured
// for.
func TestAttackCredentials(t *testing.T) {
	t.Parallel()
	image := newTinyImage(t)
	var plain, secure, other *witness
	elsewhere := "" // the other server, as the registries name it
	next := func() string { return elsewhere }
	asks := "" // the challenge of the other server
	other = newWitness(t, httptest.NewServer, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if asks != "" && r.URL.Path != "/token" {
			w.Header().Set("Www-Authenticate", asks)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		image.ServeHTTP(w, r)
	}))
	plain = newWitness(t, httptest.NewServer, lure{image, func() string { return plain.URL }, next})
	secure = newWitness(t, httptest.NewTLSServer, lure{image, func() string { return secure.URL }, next})
	authority := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: secure.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(other.host(), ":")
	// The server itself follows redirects, in the clients' place.
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_UPSTREAMS_BLOBS": "stream", "WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{%q: {plain_http: true, username: ci, password: %s}, %q: {ca: %q, username: ci, password: %s}, %q: {plain_http: true}, "localhost:%s": {plain_http: true}}`,
		plain.host(), password, secure.host(), authority, password, other.host(), port)})
	submit := func(image string) harness.Response {
		return p.Post(t, submission, map[string]any{"containerImage": image, "containerConfig": harness.Config{Env: []string{"A=b"}}, "towerAccessToken": platformToken})
	}
	for name, test := range map[string]struct {
		registry  *witness
		how       string // its repository
		elsewhere string
		asks      string
		status    int  // of a submission and a pull
		unseen    bool // whether the other server must see nothing at all
	}{
		"basic, manifest at another port":        {plain, "basic-manifest/a", other.URL, "", 200, false},
		"basic, config at another port":          {plain, "basic-config/a", other.URL, "", 200, false},
		"basic, layer at another port":           {plain, "basic-layer/a", other.URL, "", 200, false},
		"basic, manifest at another host":        {plain, "basic-manifest/b", "http://localhost:" + port, "", 200, false},
		"basic, layer at another host":           {plain, "basic-layer/b", "http://localhost:" + port, "", 200, false},
		"bearer, manifest at another port":       {plain, "bearer-manifest/a", other.URL, "", 200, false},
		"bearer, config at another port":         {plain, "bearer-config/a", other.URL, "", 200, false},
		"bearer, layer at another port":          {plain, "bearer-layer/a", other.URL, "", 200, false},
		"bearer, layer at another host":          {plain, "bearer-layer/b", "http://localhost:" + port, "", 200, false},
		"TLS, layer at one without":              {secure, "bearer-layer/a", other.URL, "", 200, false},
		"TLS, manifest at one without":           {secure, "basic-manifest/a", other.URL, "", 403, true},
		"TLS, realm without":                     {secure, "realm-x/a", other.URL, "", 403, true},
		"TLS, token's request sent on to one w/": {secure, "redirected-x/a", other.URL, "", 403, true},
		"the other server wants Basic":           {plain, "basic-manifest/c", other.URL, `Basic realm="x"`, 502, false},
		"the other server wants Basic for blobs": {plain, "bearer-layer/c", other.URL, `Basic realm="x"`, 502, false},
		"the other server wants a token":         {plain, "basic-manifest/d", other.URL, `Bearer realm="` + other.URL + `/token",service="x"`, 502, false},
		"the other server wants our token":       {plain, "basic-manifest/e", other.URL, `Bearer realm="` + plain.URL + `/token",service="x"`, 502, false},
		"token's request sent on":                {plain, "redirected-x/a", other.URL, "", 200, false},
		"user in the redirect":                   {plain, "basic-manifest/f", strings.Replace(other.URL, "//", "//ci:"+password+"@", 1), "", 403, true},
	} {
		t.Run(name, func(t *testing.T) {
			elsewhere, asks = test.elsewhere, test.asks
			plain.all()
			secure.all()
			other.all()
			r := submit(test.registry.host() + "/" + test.how + ":x")
			if a, err := r.Answer(); err == nil && a.ContainerToken != "" && strings.Contains(test.how, "layer") {
				r = harness.Do(t, http.MethodGet, p.URL+"/v2/wt/"+a.ContainerToken+"/"+test.how+"/blobs/"+image.Layer.GzipDigest, "Authorization", "Bearer "+platformToken)
			}
			if r.Status != test.status {
				t.Errorf("status %d, want %d: %s", r.Status, test.status, r.Body)
			}
			told := other.all()
			if found := secrets(told); len(found) != 0 {
				t.Errorf("BREACH: the other server received %q", found)
			}
			if test.unseen != (len(told) == 0) {
				t.Errorf("the other server saw %q", told)
			}
			own := append(plain.all(), secure.all()...)
			if found := secrets(own); len(found) == 0 && !strings.HasPrefix(test.how, "realm") {
				t.Errorf("the registry itself did not get the credential: %q", own)
			} else if strings.Contains(fmt.Sprint(own), platformToken) {
				t.Errorf("BREACH: the registry received the client's token")
			}
			for _, secret := range []string{password, registryToken, platformToken} {
				if strings.Contains(r.Body+p.Log.String(), secret) {
					t.Errorf("BREACH: the answer or the log contains %s", secret)
				}
			}
		})
	}
}
