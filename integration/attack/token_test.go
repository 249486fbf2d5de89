package attack

import (
	"bytes"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	endian "encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

const alphabet = "abcdefghijklmnopqrstuvwxyz234567"

var tokenText = base32.NewEncoding(alphabet).WithPadding(base32.NoPadding)

// tokenFields are the parts of a token in the order of its 24 bytes: version in
// the high 4 bits and key id in the low 4, expiry in minutes since 2020 (3
// bytes), grant id (12 bytes), and a MAC of the bytes before it (8 bytes).
type tokenFields struct {
	version, keyID byte
	expires        time.Time
	grant          [12]byte
}

func readToken(t *testing.T, token string) (f tokenFields) {
	t.Helper()
	b, err := tokenText.DecodeString(token)
	if err != nil || len(b) != 24 {
		t.Fatalf("a token of %d bytes: %v", len(b), err)
	}
	minutes := endian.BigEndian.Uint32(b[:4]) & 0xffffff
	f = tokenFields{version: b[0] >> 4, keyID: b[0] & 0xf, expires: tokenEpoch.Add(time.Duration(minutes) * time.Minute)}
	copy(f.grant[:], b[4:16])
	return f
}

var tokenEpoch = time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC)

// sign writes a token with the key in a server's storage, as a thief of the key
// would. The MAC is HMAC-SHA256, cut to 8 bytes, under a key derived from the one
// in the file by HKDF.
func (f tokenFields) sign(t *testing.T, dir string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	secret, err := base64.StdEncoding.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil {
		t.Fatal(err)
	}
	key, err := hkdf.Key(sha256.New, secret, nil, "waveproxy v1 token mac", 32)
	if err != nil {
		t.Fatal(err)
	}
	b := endian.BigEndian.AppendUint32(nil, uint32(f.expires.Sub(tokenEpoch)/time.Minute))
	b[0] = f.version<<4 | f.keyID
	b = append(b, f.grant[:]...)
	mac := hmac.New(sha256.New, key)
	mac.Write(b)
	return tokenText.EncodeToString(append(b, mac.Sum(nil)[:8]...))
}

// resources returns the paths that a token opens, in both forms.
func resources(token string) (paths []string) {
	for _, form := range []string{"/v2/wt/%s/library/busybox/%s", "/wt/%s/v2/library/busybox/%s"} {
		for _, resource := range []string{"manifests/oci", "tags/list"} {
			paths = append(paths, fmt.Sprintf(form, token, resource))
		}
	}
	return paths
}

// wantRefused fails the test unless every path with the token is refused.
func wantRefused(t *testing.T, p *harness.Proxy, what, token string, status int, code string) {
	t.Helper()
	for _, path := range resources(token) {
		r := harness.Do(t, http.MethodGet, p.URL+path)
		harness.WantRegistryError(t, what, r, status, code)
		if strings.Contains(r.Body, token) {
			t.Errorf("%s: the refusal repeats the token", what)
		}
	}
	for _, path := range []string{"/container-token/%s", "/v1alpha2/container/%s", "/v1alpha2/container/%s/status"} {
		r := harness.Do(t, http.MethodGet, p.URL+fmt.Sprintf(path, token))
		if r.Status != http.StatusNotFound {
			t.Errorf("%s at %s: status %d: %s", what, path, r.Status, r.Body)
		}
	}
}

func wantGood(t *testing.T, p *harness.Proxy, token string) {
	t.Helper()
	for _, path := range append(resources(token), "/container-token/"+token) {
		wantStatus(t, "a good token at "+path, harness.Do(t, http.MethodGet, p.URL+path), http.StatusOK)
	}
}

// TestAttackForgedToken changes every character of a token to every other, and
// tries each other change that needs no key.
func TestAttackForgedToken(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	token := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}).ContainerToken
	wantGood(t, p, token)
	before := harness.Stored(t, p.Dir)
	reg.Reset()
	for i := range token {
		for _, c := range alphabet + "ABZ0189-_.~" {
			if forged := token[:i] + string(c) + token[i+1:]; forged != token {
				r := harness.Do(t, http.MethodGet, p.URL+resources(forged)[i%4])
				harness.WantRegistryError(t, fmt.Sprintf("character %d changed to %q", i, c), r, http.StatusNotFound, "NAME_UNKNOWN")
			}
		}
		flipped := token[:i] + string(alphabet[(strings.IndexByte(alphabet, token[i])+16)%32]) + token[i+1:]
		wantRefused(t, p, fmt.Sprintf("one bit of character %d", i), flipped, http.StatusNotFound, "NAME_UNKNOWN")
	}
	for what, forged := range map[string]string{
		"upper case": strings.ToUpper(token), "cut": token[:38], "longer": token + "a", "twice": token + token, "backwards": token[1:] + token[:1],
		"with a line break": token[:20] + "%0a" + token[20:], "with a blank": token + "%20", "padded": token + "=", "of zeros": strings.Repeat("a", 39), "very long": strings.Repeat(token, 100),
	} {
		wantRefused(t, p, what, forged, http.StatusNotFound, "NAME_UNKNOWN")
	}
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("forged tokens reached the upstream: %q", requests)
	}
	if after := harness.Stored(t, p.Dir); after != before {
		t.Errorf("forged tokens left files in the storage: %s", after)
	}
	wantGood(t, p, token)
	if strings.Contains(p.Log.String(), token) {
		t.Error("the log contains the token")
	}
}

// TestAttackSignedToken uses tokens that must be refused although the server's
// own key signed them, and tokens signed with another key.
func TestAttackSignedToken(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p, other := harness.StartProxy(t, "", harness.DockerHub(reg.URL)), harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	token := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}).ContainerToken
	good := readToken(t, token)
	edit := func(fn func(*tokenFields)) tokenFields { f := good; fn(&f); return f }
	if good.sign(t, p.Dir) != token {
		t.Fatal("the test does not sign as the server does")
	}
	sooner := edit(func(f *tokenFields) { // on the same day, because a grant is stored by its day
		if f.expires = f.expires.Add(-time.Minute); f.expires.Day() != good.expires.Day() {
			f.expires = good.expires.Add(time.Minute)
		}
	})
	wantGood(t, p, sooner.sign(t, p.Dir)) // so the next tokens are refused because of their expiry
	for what, expires := range map[string]time.Time{"a minute ago": time.Now().Add(-time.Minute), "now": time.Now(), "last year": time.Now().AddDate(-1, 0, 0), "in 2020": tokenEpoch} {
		expired := edit(func(f *tokenFields) { f.expires = expires })
		wantRefused(t, p, "expired "+what, expired.sign(t, p.Dir), http.StatusForbidden, "DENIED")
		// The refusal of an expired token that is also forged does not mention
		// the expiry.
		wantRefused(t, p, "expired "+what+" and forged", expired.sign(t, other.Dir), http.StatusNotFound, "NAME_UNKNOWN")
	}
	for what, f := range map[string]tokenFields{
		"another version": edit(func(f *tokenFields) { f.version++ }),
		"another key id":  edit(func(f *tokenFields) { f.keyID ^= 1 }),
		"another grant":   edit(func(f *tokenFields) { f.grant[3] ^= 1 }),
	} {
		wantRefused(t, p, what, f.sign(t, p.Dir), http.StatusNotFound, "NAME_UNKNOWN")
	}
	wantRefused(t, p, "another server's key", good.sign(t, other.Dir), http.StatusNotFound, "NAME_UNKNOWN")
	wantRefused(t, p, "another server's token", other.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}).ContainerToken, http.StatusNotFound, "NAME_UNKNOWN")
	wantGood(t, p, token)
}

// TestAttackRevokedToken revokes tokens in both ways, and checks that a client
// without an admin's password cannot.
func TestAttackRevokedToken(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	hash, err := bcrypt.GenerateFromPassword([]byte("correct horse"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	settings := harness.DockerHub(reg.URL)
	settings["WAVEPROXY_API_ADMINS"] = fmt.Sprintf("{root: %q}", hash)
	p := harness.StartProxy(t, "", settings)
	replica := harness.StartProxy(t, p.Dir, settings)
	mint := func(env string) string {
		token := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Env: []string{"N=" + env}}}).ContainerToken
		wantGood(t, p, token)
		wantGood(t, replica, token)
		return token
	}
	token, spared := mint("1"), mint("2")
	for what, header := range map[string][]string{
		"no login":       {},
		"wrong password": {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("root:wrong"))},
		"no password":    {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("root:"))},
		"wrong user":     {"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("admin:correct horse"))},
		"the hash":       {"Authorization", "Basic " + base64.StdEncoding.EncodeToString(append([]byte("root:"), hash...))},
		"the token":      {"Authorization", "Bearer " + token},
	} {
		wantStatus(t, "revoked by "+what, harness.Do(t, http.MethodDelete, p.URL+"/container-token/"+token, header...), http.StatusUnauthorized)
	}
	wantGood(t, p, token)
	admin := []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("root:correct horse"))}
	wantStatus(t, "revoked by an admin", harness.Do(t, http.MethodDelete, p.URL+"/container-token/"+token, admin...), http.StatusOK)
	wantRefused(t, p, "revoked", token, http.StatusForbidden, "DENIED")
	wantGood(t, p, spared)
	// The same request would get the same token, which stays revoked.
	again := p.Submit(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Env: []string{"N=1"}}})
	if again.ContainerToken == token {
		wantRefused(t, p, "revoked and minted again", token, http.StatusForbidden, "DENIED")
	}

	other := mint("3")
	if _, stderr, err := harness.Run(t, []string{"WAVEPROXY_STORAGE_DIR=" + p.Dir}, "token", "revoke", other); err != nil {
		t.Fatalf("%v: %s", err, stderr)
	}
	for what, server := range map[string]*harness.Proxy{"the server": p, "a replica": replica} {
		// Other servers learn of a revocation within 5 seconds, the documented
		// bound.
		for deadline := time.Now().Add(8 * time.Second); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
			if harness.Do(t, http.MethodGet, server.URL+resources(other)[0]).Status != http.StatusOK {
				break
			}
		}
		wantRefused(t, server, "revoked beside "+what, other, http.StatusForbidden, "DENIED")
		wantRefused(t, server, "revoked by an admin, at "+what, token, http.StatusForbidden, "DENIED")
		wantGood(t, server, spared)
	}
}

// TestAttackOtherImage uses a good token for another image.
func TestAttackOtherImage(t *testing.T) {
	t.Parallel()
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci", "busybox:entry")
	harness.PushAliases(t, reg, "busybox:oci", "alpine:latest", "library/busybox/deeper:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	token := p.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t)}).ContainerToken
	reg.Reset()
	for _, name := range []string{"library/alpine", "alpine", "busybox", "library/busybox/deeper", "docker.io/library/busybox", "library", "other/busybox", "wt/" + token + "/library/busybox"} {
		for _, form := range []string{"/v2/wt/%s/%s/manifests/oci", "/wt/%s/v2/%s/manifests/oci", "/v2/wt/%s/%s/tags/list"} {
			harness.WantRegistryError(t, name, harness.Do(t, http.MethodGet, p.URL+fmt.Sprintf(form, token, name)), http.StatusForbidden, "DENIED")
		}
	}
	for _, tag := range []string{"entry", "latest", "OCI", "oci2"} {
		for _, form := range []string{"/v2/wt/%s/library/busybox/manifests/%s", "/wt/%s/v2/library/busybox/manifests/%s"} {
			harness.WantRegistryError(t, tag, harness.Do(t, http.MethodGet, p.URL+fmt.Sprintf(form, token, tag)), http.StatusNotFound, "MANIFEST_UNKNOWN")
		}
	}
	if requests := reg.Requests(); len(requests) != 0 {
		t.Errorf("BREACH: the upstream was asked for %q", requests)
	}
	wantGood(t, p, token)
}

// TestAttackRenewedToken has an identity make names of another one's name, as an image and
// to include, to have its layers for longer.
func TestAttackRenewedToken(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	hash, err := bcrypt.GenerateFromPassword([]byte("admin-password"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	settings := h.settings()
	settings["WAVEPROXY_API_AUTH"] = "bearer"
	settings["WAVEPROXY_API_ADMINS"] = fmt.Sprintf("{root: %q}", hash)
	settings["WAVEPROXY_API_TOKENS"] = `{team-a: {token: "aaaaaaaaaaaaaaaaaaaaaaaa"}, team-b: {token: "bbbbbbbbbbbbbbbbbbbbbbbb"}}`
	p := harness.StartProxy(t, "", settings)
	layer := harness.LayerOf(t, harness.File{Name: "opt/secret", Mode: 0o644, Text: "team-a's"})
	submit := func(token string, members map[string]any) (a harness.Answer) {
		t.Helper()
		r, err := p.Call(t.Context(), http.MethodPost, submission, string(harness.MustJSON(t, members)), "Authorization", "Bearer "+token)
		if err != nil || r.Status != http.StatusOK {
			t.Fatalf("%v, status %d: %s", err, r.Status, r.Body)
		}
		if err := json.Unmarshal([]byte(r.Body), &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	const a, b = "aaaaaaaaaaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbbbbbbbbbb"
	env := harness.Config{Env: []string{"A=b"}}
	first := submit(a, map[string]any{"containerImage": h.host() + "/good:x", "ttl": "10m", "containerConfig": harness.Config{Layers: []harness.Layer{layer}}})
	made := map[string]harness.Answer{
		"as an image": submit(b, map[string]any{"containerImage": first.TargetImage, "ttl": "24h", "containerConfig": env}),
		"included":    submit(b, map[string]any{"containerImage": h.host() + "/other:x", "ttl": "24h", "containerConfig": env, "containerIncludes": []string{first.TargetImage}}),
	}
	made["made of that"] = submit(b, map[string]any{"containerImage": made["as an image"].TargetImage, "ttl": "24h", "containerConfig": harness.Config{Env: []string{"C=d"}}})
	for name, m := range made {
		if m.Expiration > first.Expiration {
			t.Errorf("BREACH: %s it lives until %s, and not %s", name, m.Expiration, first.Expiration)
		}
	}
	if r, err := p.Call(t.Context(), http.MethodDelete, "/container-token/"+first.ContainerToken, "", "Authorization", "Basic cm9vdDphZG1pbi1wYXNzd29yZA=="); err != nil || r.Status/100 != 2 {
		t.Fatalf("revoke: %v, status %d: %s", err, r.Status, r.Body)
	}
	revoked := time.Now()
	for name, m := range made {
		_, path, _ := strings.Cut(strings.TrimSuffix(m.TargetImage, ":x"), "/")
		for {
			r, err := p.Call(t.Context(), http.MethodGet, "/v2/"+path+"/blobs/"+layer.GzipDigest, "")
			if err != nil {
				t.Fatal(err)
			}
			if r.Status/100 != 2 {
				break
			}
			if time.Since(revoked) > 10*time.Second { // 5 are promised
				t.Fatalf("BREACH: %s: status %d after what it is made of was revoked", name, r.Status)
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}
