package registry

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

type fixedPasswords map[string]string

func (p fixedPasswords) Check(_ context.Context, user, password string) error {
	if want, known := p[user]; !known || want != password {
		return auth.ErrWrongLogin
	}
	return nil
}

func basicAuth(user, password string) string {
	r := http.Request{Header: http.Header{}}
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

// TestPullLogin: every path asks for a login before it tells anything else.
func TestPullLogin(t *testing.T) {
	f := newFixture(t)
	f.server.options.Passwords = fixedPasswords{"ann": "hunter2"}
	f.server.options.Guesses = front.NewGuesses(ratelimit.Rate{Events: 10, Per: time.Hour})
	manifest := "/v2/wt/" + string(testToken) + "/library/base/manifests/1"
	for _, path := range []string{"/v2/", manifest, "/v2/wt/x/y/manifests/latest", "/v2/elsewhere"} {
		for login, status := range map[string]int{"": 401, basicAuth("ann", "guess"): 401, "Bearer hunter2": 401} {
			resp, body, err := f.do(t, "GET", f.proxy.URL+path, "Authorization", login)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != status || resp.Header.Get("Www-Authenticate") != `Basic realm="waveproxy", charset="UTF-8"` {
				t.Errorf("%s with %q: %d, %v, %s", path, login, resp.StatusCode, resp.Header, body)
			}
		}
	}
	resp, body, err := f.do(t, "GET", f.proxy.URL+manifest, "Authorization", basicAuth("ann", "hunter2"))
	if err != nil || resp.StatusCode != 200 {
		t.Errorf("logged in: %v %s %v", resp.Status, body, err)
	}
	for range 10 {
		if resp, _, err = f.do(t, "GET", f.proxy.URL+"/v2/", "Authorization", basicAuth("ann", "guess")); err != nil {
			t.Fatal(err)
		}
	}
	if resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") == "" {
		t.Errorf("after many guesses: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
}

// TestPullLimit: all manifest requests of one pull count once, blobs do not count.
func TestPullLimit(t *testing.T) {
	f := newFixture(t)
	f.server.options.Pulls = ratelimit.New(ratelimit.Rate{Events: 1, Per: time.Hour})
	get := func(method, path string) *http.Response {
		t.Helper()
		resp, _, err := f.do(t, method, f.proxy.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	manifest := "/v2/wt/" + string(testToken) + "/library/base/manifests/"
	for range 3 {
		for _, path := range []string{manifest + "1", manifest + f.grant.Root.Digest.String()} {
			for _, method := range []string{"HEAD", "GET"} {
				if resp := get(method, path); resp.StatusCode != 200 {
					t.Fatalf("%s %s: %s", method, path, resp.Status)
				}
			}
		}
	}
	f.server.options.Pulls = ratelimit.New(ratelimit.Rate{Events: 1, Per: time.Hour})
	f.server.options.Pulls.Take(front.ClientOf(t.Context())) // outside a request the address is empty
	f.server.options.Pulls.Take("127.0.0.1")
	if resp := get("GET", manifest+"1"); resp.StatusCode != http.StatusTooManyRequests || resp.Header.Get("Retry-After") != "3600" {
		t.Errorf("over the limit: %s, Retry-After %q", resp.Status, resp.Header.Get("Retry-After"))
	}
	if resp, _, err := f.do(t, "GET", f.url()); err != nil || resp.StatusCode != 200 {
		t.Errorf("a blob over the limit: %v %v", resp.Status, err)
	}
}
