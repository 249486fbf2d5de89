package api

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
)

// described is a grant with every member set.
func described() auth.Description {
	return auth.Description{Created: created, Expires: expires, Grant: &auth.Grant{
		Image: "docker.io/library/ubuntu", Tag: "24.04", Base: digest.FromString("base"),
		Root: ocispec.Descriptor{Digest: digest.FromString("root")}, Platforms: []string{"linux/amd64", "linux/arm64"},
		Identity: "platform:0123456789abcdef", Asked: auth.Asked{Timestamp: "2026-01-02T03:00+01:00", Fingerprint: "f00d"},
		Recipe: augment.Recipe{Entrypoint: []string{"/e"}, Cmd: []string{"c"}, Env: []string{"A=b"}, WorkingDir: "/w", Layers: []augment.Layer{
			{Digest: digest.FromString("inline"), Size: 3, DiffID: digest.FromString("inline tar")},
			{Digest: digest.FromString("remote"), Size: 4, DiffID: digest.FromString("remote tar"), Location: "https://host/l.tar.gz"},
		}},
	}}
}

func TestDescribe(t *testing.T) {
	f, h := newAPI()
	f.description = described()
	config := fmt.Sprintf(`{"entrypoint": ["/e"], "cmd": ["c"], "env": ["A=b"], "workingDir": "/w", "layers": [
		{"location": "data:DATA+OMITTED", "gzipDigest": %q, "gzipSize": 3, "tarDigest": %q},
		{"location": "https://host/l.tar.gz", "gzipDigest": %q, "gzipSize": 4, "tarDigest": %q}]}`,
		digest.FromString("inline"), digest.FromString("inline tar"), digest.FromString("remote"), digest.FromString("remote tar"))
	pulled := "proxy.test:9090/wt/" + string(token) + "/library/ubuntu:24.04"
	path := container + "/" + string(token)

	status := call(h, "GET", path+"/status", "")
	duration := regexp.MustCompile(`"duration":([0-9]+\.[0-9]{3})[,}]`).FindStringSubmatch(status.Body.String())
	if duration == nil {
		t.Fatalf("status %s: want a duration in seconds with a fraction, without which clients read nanoseconds", status.Body)
	}
	checkJSON(t, status, fmt.Sprintf(
		`{"id": %q, "status": "DONE", "succeeded": true, "creationTime": "2026-01-02T02:00:00Z", "duration": %s}`, string(token), duration[1]))
	checkJSON(t, call(h, "GET", path, ""), fmt.Sprintf(`{"id": %q, "containerImage": "docker.io/library/ubuntu:24.04", "containerConfig": %s,
		"platform": "linux/amd64,linux/arm64", "timestamp": "2026-01-02T03:00+01:00", "fingerprint": "f00d", "expiration": "2026-01-03T15:00:00Z",
		"sourceImage": "docker.io/library/ubuntu:24.04", "sourceDigest": %q, "waveImage": %q, "waveDigest": %q, "freeze": false, "mirror": false}`,
		string(token), config, digest.FromString("base"), pulled, digest.FromString("root")))
	checkJSON(t, call(h, "GET", "/container-token/"+string(token), ""), fmt.Sprintf(`{"token": %q, "expiration": "2026-01-03T15:00:00Z",
		"request": {"containerImage": "docker.io/library/ubuntu:24.04", "containerConfig": %s, "platform": "linux/amd64,linux/arm64", "timestamp": "2026-01-02T03:00+01:00", "fingerprint": "f00d"},
		"source": {"image": "docker.io/library/ubuntu:24.04", "digest": %q}, "wave": {"image": %q, "digest": %q}}`,
		string(token), config, digest.FromString("base"), pulled, digest.FromString("root")))
}

// TestDescribePlain: a pinned image to which nothing was added.
func TestDescribePlain(t *testing.T) {
	f, h := newAPI()
	f.description = described()
	f.description.Grant.Recipe, f.description.Grant.Tag, f.description.Grant.Platforms = augment.Recipe{}, "", nil
	checkJSON(t, call(h, "GET", "/container-token/"+string(token), ""), fmt.Sprintf(`{"token": %[1]q, "expiration": "2026-01-03T15:00:00Z",
		"request": {"containerImage": "docker.io/library/ubuntu@%[2]s", "timestamp": "2026-01-02T03:00+01:00", "fingerprint": "f00d"},
		"source": {"image": "docker.io/library/ubuntu@%[2]s", "digest": %[2]q},
		"wave": {"image": "proxy.test:9090/wt/%[1]s/library/ubuntu@%[3]s", "digest": %[3]q}}`,
		string(token), digest.FromString("base"), digest.FromString("root")))
}

func TestAbsentTokens(t *testing.T) {
	for _, end := range []error{auth.ErrUnknownToken, auth.ErrExpiredToken, auth.ErrRevokedToken} {
		f, h := newAPI(withAdmin(t))
		f.err = fmt.Errorf("open token 12345678: %w", end)
		for _, path := range []string{container + "/%s", container + "/%s/status", "/container-token/%s"} {
			checkError(t, call(h, "GET", fmt.Sprintf(path, token), ""), http.StatusNotFound, end.Error())
		}
		checkError(t, call(h, "DELETE", "/container-token/"+string(token), "", "Authorization", basic("ops", "open sesame")), http.StatusNotFound, end.Error())
	}
	f, h := newAPI()
	for _, id := range []string{"9a1b2c3d4e5f", "%2e%2e", "x%0ay", strings.ToUpper(string(token))} {
		checkError(t, call(h, "GET", container+"/"+id+"/status", ""), http.StatusNotFound, "unknown token")
	}
	if len(f.calls) != 0 {
		t.Errorf("%q were asked for", f.calls)
	}
	f.err = errors.New("disk gone")
	checkError(t, call(h, "GET", container+"/"+string(token)+"/status", ""), http.StatusInternalServerError, "internal error")
}

func withAdmin(t *testing.T) func(*Options) {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte("open sesame"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	// A hash in htpasswd's form.
	return func(o *Options) {
		if o.Admins, err = auth.NewPasswords(map[string]string{"ops": strings.Replace(string(hash), "$2a$", "$2y$", 1)}); err != nil {
			t.Fatal(err)
		}
	}
}

func basic(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestDelete(t *testing.T) {
	for name, test := range map[string]struct {
		header []string
		status int
	}{
		"admin":          {[]string{"Authorization", basic("ops", "open sesame")}, 200},
		"wrong password": {[]string{"Authorization", basic("ops", "open")}, 401},
		"empty password": {[]string{"Authorization", basic("ops", "")}, 401},
		"unknown user":   {[]string{"Authorization", basic("root", "open sesame")}, 401}, // with the password of the decoy
		"no user":        {[]string{"Authorization", basic("", "open sesame")}, 401},
		"none":           {nil, 401},
		"bearer":         {[]string{"Authorization", "Bearer open sesame"}, 401},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI(withAdmin(t))
			w := call(h, "DELETE", "/container-token/"+string(token), "", test.header...)
			if test.status == http.StatusOK {
				if w.Code != http.StatusOK || w.Body.Len() != 0 || len(f.revoked) != 1 || f.revoked[0] != token {
					t.Errorf("status %d, body %q, revoked %q", w.Code, w.Body, f.revoked)
				}
				return
			}
			checkError(t, w, test.status, "api.admins")
			if got := w.Header().Get("WWW-Authenticate"); got != `Basic realm="waveproxy", charset="UTF-8"` {
				t.Errorf("WWW-Authenticate: %q", got)
			}
			if len(f.calls) != 0 {
				t.Errorf("went on to %q", f.calls)
			}
		})
	}
}

// TestDeleteWithoutAdmins: all callers with the same request share its token, so
// having the token is no permission to end it.
func TestDeleteWithoutAdmins(t *testing.T) {
	f, h := newAPI()
	w := call(h, "DELETE", "/container-token/"+string(token), "", "Authorization", basic("", ""))
	checkError(t, w, http.StatusForbidden, "configure api.admins")
	if len(f.calls) != 0 || w.Header().Get("WWW-Authenticate") != "" {
		t.Errorf("went on to %q, or asked for a login though there are no admins", f.calls)
	}
}
