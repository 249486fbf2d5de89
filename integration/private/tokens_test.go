package private

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// startTokenPull starts a registry with an image of n layers, and a server that
// has made an augmented image of it with a single token.
func startTokenPull(t *testing.T, n int, lifetime time.Duration) (*upstream.Private, upstream.User, *harness.Proxy, harness.Answer) {
	t.Helper()
	user := ownPuller("tokens")
	reg := upstream.TokenRegistry(t, harness.Pusher(), user)
	reg.PushOwn(t, "team/app:1", n)
	p := harness.StartProxy(t, "", harness.OneRegistry(reg.Host, harness.Login(user)))
	reg.Tokens.SetLifetime(lifetime)
	reg.Tokens.Reset()
	a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/team/app:1", ContainerConfig: harness.Greeter(t)})
	wantTokenRequests(t, reg, user, 1)
	return reg, user, p, a
}

// pullOwn pulls, runs and removes the image, so that the next pull requests its
// layers again.
func pullOwn(t *testing.T, e engine.Engine, image string) {
	t.Helper()
	harness.MustPull(t, e, image)
	t.Cleanup(func() {
		if err := e.Remove(context.WithoutCancel(t.Context()), image); err != nil {
			t.Error(err)
		}
	})
	if out := harness.MustRun(t, e, image); out != harness.Greeting {
		t.Errorf("printed %q, want %q", out, harness.Greeting)
	}
}

// TestPrivateTokensExpire pulls for longer than the registry's tokens live. The
// proxy learns from a refusal that a token has expired. It then requests one new
// token, and the engine notices nothing.
func TestPrivateTokensExpire(t *testing.T) {
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) { pullWhileTokensExpire(t, e) })
	}
}

func pullWhileTokensExpire(t *testing.T, e engine.Engine) {
	const lifetime = 2 * time.Second
	reg, user, _, a := startTokenPull(t, 6, lifetime)
	var mu sync.Mutex
	seen := map[string]bool{}
	reg.Meet(func(r *http.Request) {
		mu.Lock()
		first := !seen[r.URL.Path] && strings.Contains(r.URL.Path, "/blobs/")
		seen[r.URL.Path] = true
		wait := first && len(seen)%3 == 0
		mu.Unlock()
		if wait {
			time.Sleep(lifetime + time.Second) // until the token has expired
		}
	})
	pullOwn(t, e, a.TargetImage)
	refused := reg.Tokens.Refused()
	if refused < 1 {
		t.Error("no token has expired")
	}
	wantTokenRequests(t, reg, user, 1+refused)
}

// TestPrivateTokensRevoked has the registry revoke the token in the middle of a
// pull.
func TestPrivateTokensRevoked(t *testing.T) {
	for _, e := range engine.Available(t) {
		t.Run(e.Name(), func(t *testing.T) { pullWhileTokenEnds(t, e) })
	}
}

func pullWhileTokenEnds(t *testing.T, e engine.Engine) {
	reg, user, _, a := startTokenPull(t, 8, time.Hour)
	var mu sync.Mutex
	n := 0
	reg.Meet(func(r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		if strings.Contains(r.URL.Path, "/blobs/") {
			if n++; n == 4 {
				reg.Tokens.Revoke()
			}
		}
	})
	pullOwn(t, e, a.TargetImage)
	if n := reg.Tokens.Refused(); n != 1 {
		t.Errorf("%d tokens were refused, want 1", n)
	}
	wantTokenRequests(t, reg, user, 2)
}

// layersOf lists the layers of the augmented image that come from the registry.
func layersOf(t *testing.T, p *harness.Proxy, a harness.Answer) []string {
	t.Helper()
	status, body := harness.Get(t, p.URL+"/v2/wt/"+a.ContainerToken+"/team/app/manifests/"+a.TargetDigest)
	var manifest struct{ Layers []struct{ Digest string } }
	if err := json.Unmarshal([]byte(body), &manifest); err != nil || status != http.StatusOK {
		t.Fatalf("manifest: %v: %d %s", err, status, body)
	}
	var digests []string
	for _, l := range manifest.Layers[:len(manifest.Layers)-1] { // the last one is injected
		digests = append(digests, l.Digest)
	}
	return digests
}

// TestPrivateTokenRequests counts the requests to the token server: a token is
// used until it is refused, and requests that are refused at the same time share
// one new token.
func TestPrivateTokenRequests(t *testing.T) {
	reg, user, p, a := startTokenPull(t, 5, time.Hour)
	layers := layersOf(t, p, a)
	pull := func(digest string) error {
		resp, err := p.Call(t.Context(), http.MethodGet, "/v2/wt/"+a.ContainerToken+"/team/app/blobs/"+digest, "")
		if err == nil && (resp.Status != http.StatusOK || harness.Sum([]byte(resp.Body)) != digest) {
			t.Errorf("blob %s: status %d, %d bytes: %.300q", digest, resp.Status, len(resp.Body), resp.Body)
		}
		return err
	}
	for _, d := range layers {
		if err := pull(d); err != nil {
			t.Fatal(err)
		}
	}
	wantTokenRequests(t, reg, user, 1) // by the submission

	for i, d := range layers {
		reg.Tokens.Revoke()
		if err := pull(d); err != nil {
			t.Fatal(err)
		}
		wantTokenRequests(t, reg, user, 2+i)
	}

	const rounds = 4
	var arrived atomic.Int64
	all := make(chan struct{})
	reg.Meet(func(r *http.Request) {
		switch {
		case strings.Contains(r.URL.Path, "/blobs/"):
			if arrived.Add(1) == int64(rounds*len(layers)) {
				close(all)
			}
		case r.URL.Path == "/token": // waits until all requests need a token
			select {
			case <-all:
			case <-r.Context().Done():
			}
		}
	})
	reg.Tokens.Reset()
	reg.Tokens.Revoke()
	var wg sync.WaitGroup
	for range rounds {
		for _, d := range layers {
			wg.Go(func() {
				if err := pull(d); err != nil {
					t.Error(err)
				}
			})
		}
	}
	wg.Wait()
	wantTokenRequests(t, reg, user, 1)
}

// TestPrivateTokensAreSecrets is the control: the search for secrets also finds a
// registry's own tokens.
func TestPrivateTokensAreSecrets(t *testing.T) {
	user := ownPuller("found")
	reg := upstream.TokenRegistry(t, harness.Pusher(), user)
	resp := harness.Do(t, http.MethodGet, reg.URL+"/token?service=registry.test&scope=repository:team/app:pull", "Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Name+":"+user.Password)))
	var answer struct{ Token string }
	if err := json.Unmarshal([]byte(resp.Body), &answer); err != nil || answer.Token == "" {
		t.Fatalf("%v: %d %s", err, resp.Status, resp.Body)
	}
	if len(harness.Leaks([]byte("Bearer "+answer.Token))) == 0 {
		t.Errorf("%s is not found", answer.Token)
	}
}
