package attack

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackEndless has a registry send answers that never end, or lead in
// circles.
func TestAttackEndless(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	status := func(code int, headers ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			for i := 0; i+1 < len(headers); i += 2 {
				w.Header().Set(headers[i], headers[i+1])
			}
			w.WriteHeader(code)
			endless(w, "", "no ")
		}
	}
	only := func(part string, attack http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if strings.Contains(r.URL.Path, part) {
				attack(w, r)
				return
			}
			h.tinyImage.ServeHTTP(w, r)
		}
	}
	realm := func(of string) string {
		return fmt.Sprintf(`Bearer realm="%s/token?of=%s",service="x"`, h.URL, of)
	}
	tokens := func(of string, answer http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/token" {
				w.Header().Set("Www-Authenticate", realm(of))
				w.WriteHeader(http.StatusUnauthorized)
				return
			}
			answer(w, r)
		}
	}
	redirect := func(to func(r *http.Request) string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", to(r))
			w.WriteHeader(http.StatusTemporaryRedirect)
			endless(w, "", "moved ")
		}
	}
	ok := status(http.StatusOK, "Content-Type", manifestType)
	// The server may take a document of 4 MiB. The kernel may hold more that the
	// server never sees.
	document := 5*harness.MiB + kernelHolds(t)
	type attack struct {
		attack   http.HandlerFunc
		status   int
		requests int   // at most
		taken    int64 // bytes, at most
	}
	attacks := map[string]attack{}
	for name, test := range map[string]attack{
		"manifest": {ok, 403, 1, document},
		"JSON of a manifest": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", manifestType)
			endless(w, `{"schemaVersion":2,"x":"`, "x")
		}, 403, 1, document},
		"manifest of a terabyte": {status(http.StatusOK, "Content-Type", manifestType, "Content-Length", strconv.Itoa(1<<40)), 403, 1, document},
		"config":                 {only("/blobs/", ok), 403, 2, document},
		"config of a terabyte":   {only("/blobs/", status(http.StatusOK, "Content-Length", strconv.Itoa(1<<40))), 403, 2, document},
		"not found":              {status(404), 404, 1, document},
		"forbidden":              {status(403), 403, 1, document},
		"bad request":            {status(400), 403, 1, document},
		"teapot":                 {status(418), 403, 1, document},
		"no challenge":           {status(401), 403, 1, document},
		"basic challenge":        {status(401, "Www-Authenticate", `Basic realm="x"`), 403, 1, document},
		"bearer challenge":       {status(401, "Www-Authenticate", realm("good")), 403, 3, 2 * document},
		"failure":                {status(500), 502, 4, 4 * document},
		"too many requests":      {status(429, "Retry-After", "1000000"), 429, 1, document},
		"partial content":        {status(206), 403, 1, document},
		"token":                  {tokens("token", func(w http.ResponseWriter, _ *http.Request) { endless(w, `{"token": "`, "x") }), 403, 2, document},
		"spaces before a token":  {tokens("spaces-before-a-token", func(w http.ResponseWriter, _ *http.Request) { endless(w, "", " ") }), 403, 2, document},
		"refusal of a token":     {tokens("refusal-of-a-token", status(403)), 403, 2, document},
		"error of a token": {tokens("error-of-a-token", func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(401)
			endless(w, `{"errors":[`, `{"code":"X"},`)
		}), 403, 2, document},
		"tokens, each refused": {tokens("tokens-each-refused", h.tinyImage.ServeHTTP), 403, 3, document},
		"circle":               {redirect(func(r *http.Request) string { return r.URL.Path }), 403, 11, 11 * document},
		"ever longer way":      {redirect(func(r *http.Request) string { return r.URL.Path + "x" }), 403, 11, 11 * document},
		"way of a mebibyte":    {redirect(func(r *http.Request) string { return r.URL.Path + strings.Repeat("x", harness.MiB) }), 403, 1, document},
		"headers":              {hijacked(t, func(w io.Writer) { endless(w, "HTTP/1.1 200 OK\r\n", "X-Header: and another\r\n") }), 403, 1, document},
		"header":               {hijacked(t, func(w io.Writer) { endless(w, "HTTP/1.1 200 OK\r\nX-Header: ", "x") }), 403, 1, document},
		"status line":          {hijacked(t, func(w io.Writer) { endless(w, "HTTP/1.1 200 ", "O") }), 403, 1, document},
		"early hints":          {hijacked(t, func(w io.Writer) { endless(w, "", "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n") }), 403, 1, document},
		"chunk header": {hijacked(t, func(w io.Writer) {
			endless(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x")
		}), 502, 1, document},
		"trailers": {hijacked(t, func(w io.Writer) {
			endless(w, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", "X-Trailer: x\r\n")
		}), 502, 1, document},
		"no HTTP at all": {hijacked(t, func(w io.Writer) { endless(w, "", "\x00\xff") }), 403, 1, document},
	} {
		attacks[name] = test
		h.on(repositoryOf(name), test.attack)
	}
	// All at once, because each case waits for retries.
	p := harness.StartProxy(t, "", h.settings())
	pid := p.PID
	var wg sync.WaitGroup
	var mu sync.Mutex
	answers := map[string]harness.Response{}
	for name := range attacks {
		wg.Go(func() {
			r, err := p.Call(t.Context(), http.MethodPost, submission, fmt.Sprintf(`{"containerImage": "%s/%s:x"}`, h.host(), repositoryOf(name)))
			if err != nil {
				r.Body = err.Error()
			}
			mu.Lock()
			answers[name] = r
			mu.Unlock()
		})
	}
	wantAlive(t, p, h.host()+"/good:x")
	wg.Wait()
	for name, test := range attacks {
		t.Run(name, func(t *testing.T) {
			r := answers[name]
			if r.Status != test.status || len(r.Body) > 1000 {
				t.Errorf("status %d, want %d: %.1000s", r.Status, test.status, r.Body)
			}
			harness.WantMessage(t, r.Body)
			if requests, taken := h.result(t, repositoryOf(name)); requests > test.requests || taken > test.taken {
				t.Errorf("BREACH: %d requests and %d bytes, want at most %d and %d", requests, taken, test.requests, test.taken)
			}
		})
	}
	// Three documents of 4 MiB, whose buffers grow by doubling, and 64 KiB of
	// every other answer.
	wantMemory(t, pid, 256)
	wantAlive(t, p, h.host()+"/good:y")
}

// repositoryOf returns the repository name that stands for an attack.
func repositoryOf(attack string) string {
	return strings.NewReplacer(" ", "-", ",", "").Replace(strings.ToLower(attack))
}
