package upstream

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

func limited(retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		status(http.StatusTooManyRequests)(w, r)
	}
}

func TestRetry(t *testing.T) {
	tests := []struct {
		name     string
		handler  http.HandlerFunc
		requests int
		minimum  time.Duration // of the first delay
		want     Kind          // 0: it succeeds
	}{
		{"503 then 200", inTurn(status(503), serveManifest), 2, firstDelay / 2, 0},
		{"500, 502, 504 then 200", inTurn(status(500), status(502), status(504), serveManifest), 4, firstDelay / 2, 0},
		{"always 503", status(503), 4, firstDelay / 2, Failed},
		{"429 then 200", inTurn(status(429), serveManifest), 2, firstDelay / 2, 0},
		{"429 for two seconds then 200", inTurn(limited("2"), serveManifest), 2, 2 * time.Second, 0},
		{"429 for longer than a call may take", limited("3600"), 1, 0, RateLimited},
		{"429 until some date", inTurn(limited("Fri, 31 Dec 1999 23:59:59 GMT"), serveManifest), 2, firstDelay / 2, 0},
		{"reset then 200", inTurn(upstreamtest.Reset, serveManifest), 2, firstDelay / 2, 0},
		{"closed then 200", inTurn(upstreamtest.HangUp, serveManifest), 2, firstDelay / 2, 0},
		{"always closed", upstreamtest.HangUp, 4, firstDelay / 2, Unreachable},
		{"always reset", upstreamtest.Reset, 4, firstDelay / 2, Unreachable},
		{"400", status(400), 1, 0, Failed},
		{"401", status(401), 1, 0, Unauthorized},
		{"403", status(403), 1, 0, Unauthorized},
		{"404", status(404), 1, 0, NotFound},
		{"418", status(418), 1, 0, Failed},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, test.handler)
			c, delays := newClient(t, listed(s))
			if test.want == 0 {
				wantManifest(t, c, image)
			} else {
				wantError(t, manifestError(t, c, image), test.want)
			}
			if n := len(s.TakeLines()); n != test.requests || len(delays.All()) != test.requests-1 {
				t.Errorf("%d requests with %d delays, want %d requests", n, len(delays.All()), test.requests)
			}
			if len(delays.All()) > 0 && delays.All()[0] < test.minimum {
				t.Errorf("first delay %s, want at least %s", delays.All()[0], test.minimum)
			}
		})
	}
}

func TestRetryAfterReachesTheCaller(t *testing.T) {
	s := newServer(t, limited("3600"))
	c, _ := newClient(t, listed(s))
	e := wantError(t, manifestError(t, c, image), RateLimited, "429", "anonymous requests", "1h0m0s")
	if e.RetryAfter != time.Hour || e.Status != http.StatusTooManyRequests {
		t.Errorf("status %d, retry after %s", e.Status, e.RetryAfter)
	}
}

func TestLoginByPostIsNotRepeated(t *testing.T) {
	b := &bearer{}
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			status(503)(w, r)
		} else {
			b.registry(w, r)
		}
	})
	b.realm = s.URL + "/token"
	o := listed(s)
	o.Keychain = keychain(auth.Credential{IdentityToken: "s3cr3t"})
	c, _ := newClient(t, o)
	wantError(t, manifestError(t, c, image), Failed, "503")
	s.WantRequests(t, "GET "+manifestPath, "POST /token")
}

func TestRefusedConnection(t *testing.T) {
	s := newServer(t, serveManifest)
	c, delays := newClient(t, listed(s))
	s.Close()
	e := wantError(t, manifestError(t, c, image), Unreachable, s.Host(), "connection refused")
	if e.Host != s.Host() || len(delays.All()) != maxAttempts-1 {
		t.Errorf("host %s after %d delays", e.Host, len(delays.All()))
	}
}

func TestCancelEndsRetries(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		cancel()
		status(503)(w, r)
	})
	c, _ := newClient(t, listed(s))
	_, err := c.Repository(image).Manifest(ctx, "1.0")
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		t.Errorf("a call that the caller gave up blames the registry: %v", err)
	}
	if n := len(s.TakeLines()); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

func TestWaitEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := wait(ctx, 0); err != nil {
		t.Error(err)
	}
	cancel()
	if err := wait(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestStalledAnswers(t *testing.T) {
	tests := []struct {
		name    string
		handler http.HandlerFunc
		want    Kind
	}{
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, Timeout},
		{"half a body", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, Timeout},
		{"half a refusal", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusUnauthorized)
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		}, Unauthorized}, // the status is known, the body is not needed
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, test.handler)
			c, _ := newClient(t, listed(s))
			c.answerTimeout, c.idleTimeout = 50*time.Millisecond, 50*time.Millisecond
			wantError(t, manifestError(t, c, image), test.want, s.Host())
		})
	}
	t.Run("the caller's deadline", func(t *testing.T) {
		s := newServer(t, tests[0].handler)
		c, _ := newClient(t, listed(s))
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		_, err := c.Repository(image).Manifest(ctx, "1.0")
		wantError(t, err, Timeout)
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("deadline is lost: %v", err)
		}
	})
}
