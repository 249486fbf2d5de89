package upstream

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// TestFewHeaders: what a host sends beside its answer is counted by lines, whatever their
// names, and not kept while the body is read.
func TestFewHeaders(t *testing.T) {
	names := make([]string, 1000)
	for i := range names {
		names[i] = fmt.Sprintf("n%03d", i)
	}
	signed := "/signed?" + strings.Repeat("x", 4<<10)
	for name, test := range map[string]struct {
		headers string
		taken   bool
	}{
		"ordinary":                   {"Etag: x\r\nDocker-Content-Digest: y\r\n", true},
		"a policy and a signed URL":  {"Content-Security-Policy: " + strings.Repeat("x", 5<<10) + "\r\nLocation: " + signed + "\r\n", true},
		"40 cookies":                 {strings.Repeat("Set-Cookie: a=b\r\n", 40), true},
		"one name 300 times":         {strings.Repeat("A:\r\n", 300), false},
		"300 names":                  {strings.Join(names[:300], ":\r\n") + ":\r\n", false},
		"300 links":                  {strings.Repeat("Link: <a>\r\n", 300), false},
		"trailers":                   {"Transfer-Encoding: chunked\r\nTrailer: " + strings.Join(names[:300], ",") + "\r\n", false},
		"a few trailers":             {"Transfer-Encoding: chunked\r\nTrailer: a,b\r\n", true},
		"20 KiB":                     {"A: " + strings.Repeat("x", 20<<10) + "\r\n", false},
		"a name 200 times, trailers": {strings.Repeat("A:\r\n", 200) + "Transfer-Encoding: chunked\r\nTrailer: " + strings.Join(names[:100], ",") + "\r\n", false},
		"challenges without a use":   {"Www-Authenticate: " + strings.Repeat("a, ", 3000) + "\r\n", true},
	} {
		url := answerRaw("HTTP/1.1 200 OK\r\n" + test.headers + "\r\n")(t)
		c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: url}}})
		r := c.Repository(image)
		req := (&http.Request{Method: http.MethodGet, URL: r.url("manifests", "1.0"), Header: http.Header{}}).WithContext(t.Context())
		resp, err := c.do(req, r.call("pull manifest", ":1.0"), c.authorized)
		if !test.taken {
			wantError(t, err, Invalid, "sent no answer of HTTP that this server takes")
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if n := weight(reflect.ValueOf(resp.Header), map[uintptr]bool{}); resp.Trailer != nil || resp.Header["A"] != nil || resp.Header["Etag"] != nil || resp.Header["Set-Cookie"] != nil {
			t.Errorf("%s: %d bytes of headers are kept: %.100q, %q", name, n, resp.Header, resp.Trailer)
		}
		resp.Body.Close()
	}
	if n := len(challenges([]string{strings.Repeat("Basic, ", 3000)})); n > maxChallenges {
		t.Errorf("%d challenges are looked at", n)
	}
}

// TestRedirectsAreForgotten: ten redirects to signed URLs are followed. Their headers are not
// kept while the last body is read, and the URLs are charged.
func TestRedirectsAreForgotten(t *testing.T) {
	for _, query := range []int{10, 4 << 10} {
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			if hop := len(r.URL.Query().Get("n")); hop < 10 {
				w.Header().Set("Www-Authenticate", strings.Repeat("x", 4<<10))
				w.Header().Set("Location", fmt.Sprintf("%s?n=%s&s=%s", r.URL.Path, strings.Repeat("x", hop+1), strings.Repeat("s", query)))
				w.WriteHeader(http.StatusTemporaryRedirect)
				return
			}
			serveManifest(w, r)
		})
		c, _ := newClient(t, listed(s))
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 1 << 20}})
		ctx := budget.With(t.Context(), ledger.Open("a"))
		r := c.Repository(image)
		req := (&http.Request{Method: http.MethodGet, URL: r.url("manifests", "1.0"), Header: http.Header{}}).WithContext(ctx)
		resp, err := c.do(req, r.call("pull manifest", ":1.0"), c.authorized)
		if err != nil {
			t.Fatal(err)
		}
		hops := 0
		for before := resp.Request.Response; before != nil; before = before.Request.Response {
			if hops++; len(before.Header) > 0 {
				t.Errorf("headers of a redirect are kept: %.100q", before.Header)
			}
		}
		if held := ledger.Held(budget.Memory); hops != 10 || held < int64(10*query) {
			t.Errorf("%d redirects, %d bytes are held for URLs of %d", hops, held, query)
		}
		data, err := io.ReadAll(resp.Body)
		if resp.Body.Close(); err != nil || string(data) != string(manifestBody) {
			t.Errorf("%q, %v", data, err)
		}
		wantNothingHeld(t, ledger)
	}
}

func wantNothingHeld(t *testing.T, ledger *budget.Ledger) {
	t.Helper()
	for range 1000 { // what a context ends is given back beside it
		if ledger.Held(budget.Memory) == 0 {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("%d bytes are held in the end", ledger.Held(budget.Memory))
}

// TestWaitingForHeaders: a request is charged for the headers that it waits for, and not for
// more than that afterwards.
func TestWaitingForHeaders(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: 2*headersRoom + 1, All: 1 << 30}})
	c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: "http://" + l.Addr().String()}}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 3)
	ask := func(client string) {
		_, err := c.Repository(image).Manifest(budget.With(ctx, ledger.Open(client)), "1.0")
		ended <- err
	}
	for range 2 {
		go ask("a")
		conn, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, "HTTP/1.1 200 OK\r\n"+strings.Repeat("a:\r\n", 100)) // and no end
	}
	if held := ledger.Held(budget.Memory); held != 2*headersRoom {
		t.Errorf("%d bytes are held", held)
	}
	go ask("a")
	wantExceeded(t, <-ended, budget.Memory)
	go ask("b")
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	conn.Close() // so that the transport asks again, or fails
	cancel()
	for range 3 {
		<-ended
	}
	wantNothingHeld(t, ledger)
}
