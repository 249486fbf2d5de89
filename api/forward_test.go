package api

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// wave stands in for the Wave server that requests are forwarded to.
type wave struct {
	got    []string // method, URI, authorization, content type, body
	answer func(http.ResponseWriter)
}

func newWave(t *testing.T) (*wave, func(*Options)) {
	t.Helper()
	s := &wave{answer: func(w http.ResponseWriter) {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = io.WriteString(w, `{"requestId":"9a1b2c3d4e5f","succeeded":null}`)
	}}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		s.got = append(s.got, r.Method, r.RequestURI, r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(body))
		s.answer(w)
	}))
	t.Cleanup(server.Close)
	return s, func(o *Options) {
		o.Client = server.Client()
		var err error
		if o.Forward, err = url.Parse(server.URL); err != nil {
			t.Error(err)
		}
	}
}

// TestForward: the requests of conda users go to Wave byte for byte, and its
// answer is returned unchanged.
func TestForward(t *testing.T) {
	for _, name := range []string{"nextflow-conda", "nextflow-freeze", "wavecli-containerfile"} {
		for _, path := range []string{container, "/container-token"} {
			wave, forward := newWave(t)
			f, h := newAPI(forward)
			body := fixture(t, name)
			w := call(h, "POST", path, body, "Content-Type", "application/json", "Authorization", "Bearer tok", "Cookie", "a=b")
			if w.Code != http.StatusOK || w.Body.String() != `{"requestId":"9a1b2c3d4e5f","succeeded":null}` || w.Header().Get("Content-Type") != "application/json; charset=utf-8" {
				t.Errorf("%s: %d %q %q", name, w.Code, w.Header(), w.Body)
			}
			if diff := cmp.Diff([]string{"POST", path, "Bearer tok", "application/json", body}, wave.got); diff != "" {
				t.Errorf("%s (-want +got):\n%s", name, diff)
			}
			if len(f.calls) != 0 {
				t.Errorf("went on to %q", f.calls)
			}
		}
	}
}

// TestForwardOnlyWhatIsNotOurs: this server answers every other request itself.
func TestForwardOnlyWhatIsNotOurs(t *testing.T) {
	wave, forward := newWave(t)
	_, h := newAPI(forward)
	for _, request := range [][3]string{
		{"POST", container, `{"containerImage":"a"}`},
		{"POST", container, `{"containerImage":""}`},
		{"POST", container, `{"freeze":true`},
		{"POST", inspect, `{"containerImage":"A"}`},
		{"GET", container + "/" + string(token), ""},
		{"GET", container + "/" + string(token) + "/status", ""},
		{"GET", "/container-token/" + string(token), ""},
		{"DELETE", "/container-token/9a1b2c3d4e5f", ""},
		{"GET", container + "/%2e%2e/status", ""},
		{"GET", "/v1alpha1/builds/..%2f..%2fadmin", ""},
		{"GET", "/v1alpha1/builds/x/y%3fz", ""},
		{"GET", "/v1alpha1/builds/" + strings.Repeat("x", 300), ""},
		{"GET", "/view/builds/x", ""},
		{"GET", "/service-info", ""},
	} {
		call(h, request[0], request[1], request[2])
		if len(wave.got) != 0 {
			t.Errorf("%q was forwarded", request)
			wave.got = nil
		}
	}
}

// TestForwardQuestions: clients ask for the status of forwarded requests.
func TestForwardQuestions(t *testing.T) {
	for _, path := range []string{
		container + "/9a1b2c3d4e5f", container + "/9a1b2c3d4e5f/status", "/container-token/9a1b2c3d4e5f",
		"/v1alpha1/builds/bd-0123456789abcdef_1", "/v1alpha1/builds/bd-1_1/status?x=y%20z", "/v1alpha1/mirrors/mr-1/logs", "/v1alpha1/scans/sc-1",
	} {
		wave, forward := newWave(t)
		_, h := newAPI(forward)
		if w := call(h, "GET", path, "", "Authorization", "Bearer tok"); w.Code != http.StatusOK || !strings.Contains(w.Body.String(), "9a1b") {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if diff := cmp.Diff([]string{"GET", path, "Bearer tok", "", ""}, wave.got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// TestForwardAnswers: the other server's answers reach the client. Redirects are
// not followed.
func TestForwardAnswers(t *testing.T) {
	wave, forward := newWave(t)
	_, h := newAPI(forward)
	for status, location := range map[int]string{429: "", 400: "", 301: "/elsewhere"} {
		wave.got = nil
		wave.answer = func(w http.ResponseWriter) {
			w.Header().Set("Retry-After", "7")
			w.Header().Set("Set-Cookie", "a=b")
			w.Header().Set("Location", location)
			w.WriteHeader(status)
			_, _ = io.WriteString(w, "text")
		}
		w := call(h, "POST", container, `{"freeze":true}`)
		if w.Code != status || w.Body.String() != "text" || w.Header().Get("Retry-After") != "7" || w.Header().Get("Set-Cookie")+w.Header().Get("Location") != "" {
			t.Errorf("%d %v %q", w.Code, w.Header(), w.Body)
		}
		if len(wave.got) != 5 {
			t.Errorf("%d: asked %q", status, wave.got)
		}
	}
	wave.answer = func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxForwarded)) }
	if w := call(h, "POST", container, `{"freeze":true}`); w.Code != http.StatusOK || w.Body.Len() != maxForwarded {
		t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
	}
	wave.answer = func(w http.ResponseWriter) { _, _ = w.Write(make([]byte, maxForwarded+1)) }
	checkError(t, call(h, "POST", container, `{"freeze":true}`), http.StatusBadGateway, "larger than 1048576 bytes")
	wave.answer = func(http.ResponseWriter) { panic(http.ErrAbortHandler) }
	checkError(t, call(h, "POST", container, `{"freeze":true}`), http.StatusBadGateway, "api.builds.forward")
}

func TestForwardUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close() // nothing listens there any more
	_, h := newAPI(func(o *Options) { o.Forward = &url.URL{Scheme: "http", Host: host} })
	checkError(t, call(h, "POST", container, `{"freeze":true}`), http.StatusBadGateway, host)
}

// TestForwardToItself: a server that forwards to itself refuses after one round.
func TestForwardToItself(t *testing.T) {
	var h http.Handler
	rounds := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		rounds++
		h.ServeHTTP(w, r)
	}))
	defer server.Close()
	_, h = newAPI(func(o *Options) {
		o.Forward, o.Client = &url.URL{Scheme: "http", Host: strings.TrimPrefix(server.URL, "http://")}, server.Client()
	})
	checkError(t, call(h, "POST", container, `{"freeze":true}`), http.StatusNotImplemented, "freeze")
	if rounds != 1 {
		t.Errorf("%d rounds", rounds)
	}
}
