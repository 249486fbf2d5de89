package upstream

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
)

// reset breaks the connection without an answer.
func reset(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	conn.Close()
}

func hangUp(_ http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

func limited(retryAfter string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Retry-After", retryAfter)
		status(http.StatusTooManyRequests)(w, r)
	}
}

// script answers with one handler after the other, and then with the last.
func script(handlers ...http.HandlerFunc) http.HandlerFunc {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		i := int(n.Add(1)) - 1
		handlers[min(i, len(handlers)-1)](w, r)
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
		{"503 then 200", script(status(503), serveManifest), 2, firstDelay / 2, 0},
		{"500, 502, 504 then 200", script(status(500), status(502), status(504), serveManifest), 4, firstDelay / 2, 0},
		{"always 503", status(503), 4, firstDelay / 2, Failed},
		{"429 then 200", script(status(429), serveManifest), 2, firstDelay / 2, 0},
		{"429 for two seconds then 200", script(limited("2"), serveManifest), 2, 2 * time.Second, 0},
		{"429 for longer than a call may take", limited("3600"), 1, 0, RateLimited},
		{"429 until some date", script(limited("Fri, 31 Dec 1999 23:59:59 GMT"), serveManifest), 2, firstDelay / 2, 0},
		{"reset then 200", script(reset, serveManifest), 2, firstDelay / 2, 0},
		{"closed then 200", script(hangUp, serveManifest), 2, firstDelay / 2, 0},
		{"always closed", hangUp, 4, firstDelay / 2, Unreachable},
		{"always reset", reset, 4, firstDelay / 2, Unreachable},
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
			if n := len(s.seen()); n != test.requests || delays.count() != test.requests-1 {
				t.Errorf("%d requests with %d delays, want %d requests", n, delays.count(), test.requests)
			}
			if delays.count() > 0 && delays.all[0] < test.minimum {
				t.Errorf("first delay %s, want at least %s", delays.all[0], test.minimum)
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
	s.wantSeen(t, "GET "+manifestPath, "POST /token")
}

func TestRefusedConnection(t *testing.T) {
	s := newServer(t, serveManifest)
	c, delays := newClient(t, listed(s))
	s.Close()
	e := wantError(t, manifestError(t, c, image), Unreachable, s.host(), "connection refused")
	if e.Host != s.host() || delays.count() != maxAttempts-1 {
		t.Errorf("host %s after %d delays", e.Host, delays.count())
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
	if n := len(s.seen()); n != 1 {
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
			wantError(t, manifestError(t, c, image), test.want, s.host())
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
