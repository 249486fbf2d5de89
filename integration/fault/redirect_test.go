package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestRedirect pulls, with each client, from a registry that requires a login and
// redirects blob requests to a storage. Either the client follows the redirect,
// or the server does. The storage never receives the login.
func TestRedirect(t *testing.T) {
	pulls := map[string]func(ctx context.Context, image string) error{
		// crane follows no redirect to a private address, except at the host that
		// it pulls from.
		"crane": func(_ context.Context, image string) error {
			return harness.CraneValidate(t, strings.Replace(image, "localhost:", "127.0.0.1:", 1))
		},
	}
	for _, e := range engine.Available(t) {
		pulls[e.Name()] = func(ctx context.Context, image string) error {
			_, err := e.Pull(ctx, image)
			return err
		}
	}
	if copier, ok := engine.FindSkopeo(t); ok {
		pulls["skopeo"] = func(ctx context.Context, image string) error {
			_, err := copier.Copy(ctx, image)
			return err
		}
	}
	for i, mode := range []string{"redirect", "stream"} {
		t.Run(mode, func(t *testing.T) {
			// Each run has other layers, because an engine does not request
			// layers that it has.
			reg := upstream.NewFaulty(t)
			layers := reg.AddImage(t, "library/away", byte(220+i), 64<<10, harness.MiB)
			storage := upstream.NewStorage(t, reg)
			reg.RedirectTo(storage)
			user := upstream.User{Name: "ci", Password: harness.SecretFor("redirect")}
			reg.SetLogin(user)
			settings := map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
				`{docker.io: {url: %q, username: %q, password: %q}, %q: {plain_http: true}}`, reg.URL, user.Name, user.Password, storage.Host)}
			if mode != "stream" { // which is the default
				settings["WAVEPROXY_UPSTREAMS_BLOBS"] = mode
			}
			p := harness.StartProxy(t, "", settings)
			a := p.Augment(t, harness.Request{ContainerImage: "away:1", ContainerConfig: harness.Greeter(t)})
			storage.Seen()
			for client, pull := range pulls {
				t.Run(client, func(t *testing.T) {
					before := len(p.Log.String())
					if err := pull(t.Context(), a.TargetImage); err != nil {
						t.Fatal(err)
					}
					wantSource(t, p.Log.String()[before:], mode, layers)
					seen := storage.Seen()
					if len(seen) < len(layers) {
						t.Errorf("the storage got %d requests for %d blobs", len(seen), len(layers))
					}
					for _, h := range seen {
						if len(h.Values("Authorization")) > 0 || len(h.Values("Cookie")) > 0 {
							t.Errorf("the storage was sent %v", h)
						}
						// A client that follows a redirect sends the URL with the
						// token as the referrer. No header of ours can prevent
						// that.
						if mode == "stream" && h.Get("Referer") != "" {
							t.Errorf("the storage was sent the referrer %s", h.Get("Referer"))
						}
						if ours := strings.HasPrefix(h.Get("User-Agent"), "waveproxy"); ours != (mode == "stream") {
							t.Errorf("the storage got a request of %q", h.Get("User-Agent"))
						}
					}
				})
			}
		})
	}
}

// wantSource fails the test unless the log says that each blob reached the client
// in the given way.
func wantSource(t *testing.T, log, mode string, layers []digest.Digest) {
	t.Helper()
	passed := map[digest.Digest]bool{}
	for text := range strings.Lines(log) {
		var line struct {
			Msg, Method, Path, Source string
			Status                    int
			Bytes                     int64
		}
		if json.Unmarshal([]byte(text), &line) != nil || line.Msg != "request" || line.Method != "GET" {
			continue
		}
		d := digest.Digest(line.Path[strings.LastIndexByte(line.Path, '/')+1:])
		switch line.Source {
		case "redirect":
			if mode != "redirect" || line.Status != 307 || line.Bytes != 0 {
				t.Errorf("%s", text)
			}
			passed[d] = true
		case "upstream":
			if mode != "stream" || line.Bytes == 0 {
				t.Errorf("%s", text)
			}
			passed[d] = true
		}
	}
	for _, d := range layers {
		if !passed[d] {
			t.Errorf("the log has no request for %s:\n%s", d, log)
		}
	}
}
