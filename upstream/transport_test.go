package upstream

import (
	"crypto/tls"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

var (
	blobData = "0123456789"
	blobDesc = ocispec.Descriptor{Digest: digest.FromString(blobData), Size: 10}
	blobPath = "/v2/team/app/blobs/" + blobDesc.Digest.String()
)

func serveBlob(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Etag", `"e"`)
	http.ServeContent(w, r, "", time.Time{}, strings.NewReader(blobData))
}

// blobRequest requests the blob and returns the answer with any status.
func blobRequest(t *testing.T, c *Client, method string, h http.Header) (*http.Response, error) {
	t.Helper()
	r := c.Repository(image)
	cl := r.call("pull blob", "@"+blobDesc.Digest.String())
	cl.verified = true
	return c.do((&http.Request{Method: method, URL: r.blobURL(blobDesc.Digest), Header: h}).WithContext(t.Context()), cl, c.authorized)
}

func TestAnswersAreWhatWasSent(t *testing.T) {
	tests := []struct {
		method string
		header http.Header
		status int
		body   string
		ranges string
	}{
		{"GET", http.Header{}, 200, blobData, ""},
		{"HEAD", http.Header{}, 200, "", ""},
		{"GET", http.Header{"Range": {"bytes=2-4"}}, 206, "234", "bytes 2-4/10"},
		{"GET", http.Header{"Range": {"bytes=-3"}}, 206, "789", "bytes 7-9/10"},
		{"GET", http.Header{"Range": {"bytes=20-"}}, 416, "invalid range: failed to overlap\n", "bytes */10"},
		{"GET", http.Header{"Range": {"bytes=2-4"}, "If-Range": {`"other"`}}, 200, blobData, ""},
		{"GET", http.Header{"If-None-Match": {`"e"`}}, 304, "", ""},
		{"GET", http.Header{"Accept-Encoding": {"gzip"}}, 200, blobData, ""},
	}
	for _, test := range tests {
		t.Run(fmt.Sprint(test.method, test.header), func(t *testing.T) {
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.Header.Get("Accept-Encoding"); got != "identity" {
					t.Errorf("Accept-Encoding: %s", got)
				}
				serveBlob(w, r)
			})
			c, _ := newClient(t, listed(s))
			resp, err := blobRequest(t, c, test.method, test.header)
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != test.status || string(body) != test.body || resp.Header.Get("Content-Range") != test.ranges {
				t.Errorf("%d %q %q", resp.StatusCode, body, resp.Header.Get("Content-Range"))
			}
			s.WantRequests(t, test.method+" "+blobPath)
		})
	}
}

func TestBlobLogsIn(t *testing.T) {
	b := &bearer{password: "hunter2"}
	s := b.start(t)
	o := listed(s)
	o.Keychain = keychain(auth.Credential{Username: "ci", Password: "hunter2"})
	c, _ := newClient(t, o)
	resp, err := blobRequest(t, c, "GET", http.Header{})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK || b.issued != 1 {
		t.Errorf("status %d after %d logins", resp.StatusCode, b.issued)
	}
}

func TestBlobError(t *testing.T) {
	wrong := auth.Credential{Username: "AWS", Password: "s3cr3t"}
	tests := []struct {
		handler    http.HandlerFunc
		credential auth.Credential
		want       Kind
		says       string
	}{
		{status(404), wrong, NotFound, "does not exist"},
		{status(403), auth.Credential{}, Unauthorized, "without credentials"},
		{ecr, wrong, Rejected, `user "AWS" from registries.example.org`},
		{limited("3600"), auth.Credential{}, RateLimited, "1h0m0s"},
		{status(500), auth.Credential{}, Failed, "500 Internal Server Error"},
		{status(418), auth.Credential{}, Failed, "418"},
	}
	for _, test := range tests {
		s := newServer(t, test.handler)
		o := listed(s)
		o.Keychain = keychain(test.credential)
		c, _ := newClient(t, o)
		_, _, err := c.Repository(image).Stream(t.Context(), blobDesc, Span{0, blobDesc.Size}, true)
		wantError(t, err, test.want, "pull blob example.org/team/app@"+blobDesc.Digest.String(), test.says)
		_, err = c.Repository(image).BlobHead(t.Context(), blobDesc)
		wantError(t, err, test.want, "pull blob example.org/team/app@"+blobDesc.Digest.String(), test.says)
	}
}

func TestBodyCutIsAnError(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"short": cut,
		"chunked": func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("half"))
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			t.Run(name+" "+protocol, func(t *testing.T) {
				s := startServer(t, handler, func(s *httptest.Server) {
					s.EnableHTTP2 = protocol == "HTTP/2.0"
					s.StartTLS()
				})
				o := Options{Registries: map[string]Registry{"example.org": {URL: s.URL, CA: certificate(t, s)}}}
				c, _ := newClient(t, o)
				resp, err := blobRequest(t, c, "GET", http.Header{})
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				if resp.Proto != protocol {
					t.Errorf("spoke %s", resp.Proto)
				}
				_, err = io.ReadAll(resp.Body)
				wantError(t, err, Invalid, s.Host(), "cut the answer off")
			})
		}
	}
}

// certificate writes the server's certificate to a file.
func certificate(t *testing.T, s *upstreamtest.Registry) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ca.pem")
	data := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestTLS(t *testing.T) {
	secure := startServer(t, serveManifest, (*httptest.Server).StartTLS)
	plain := newServer(t, serveManifest)
	old := startServer(t, serveManifest, func(s *httptest.Server) {
		s.TLS = &tls.Config{MaxVersion: tls.VersionTLS10, MinVersion: tls.VersionTLS10}
		s.StartTLS()
	})
	ca := certificate(t, secure)
	tests := []struct {
		name       string
		registries map[string]Registry
		want       Kind
		says       []string
	}{
		{"unknown authority", map[string]Registry{"example.org": {URL: secure.URL}}, Untrusted,
			[]string{"certificate signed by unknown authority", "give that as ca under registries"}},
		{"its CA", map[string]Registry{"example.org": {URL: secure.URL, CA: ca}}, 0, nil},
		{"the CA of another registry", map[string]Registry{"example.org": {URL: secure.URL}, "example.net": {URL: old.URL, CA: ca}}, Untrusted, nil},
		{"two registries on one host, one CA", map[string]Registry{"example.org": {URL: secure.URL}, "example.net": {URL: secure.URL, CA: ca}}, 0, nil},
		{"no TLS", map[string]Registry{"example.org": {URL: "https://" + plain.Host()}}, Untrusted, []string{"does not speak TLS", "plain_http"}},
		{"no common version", map[string]Registry{"example.org": {URL: old.URL, CA: ca}}, Untrusted, []string{"protocol version"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c, delays := newClient(t, Options{Registries: test.registries})
			if test.want == 0 {
				wantManifest(t, c, image)
			} else {
				wantError(t, manifestError(t, c, image), test.want, test.says...)
			}
			if len(delays.All()) != 0 {
				t.Errorf("%d retries", len(delays.All()))
			}
		})
	}
}
