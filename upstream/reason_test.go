package upstream

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// weight is what a value keeps in memory, in bytes, as far as it can be reached.
func weight(v reflect.Value, seen map[uintptr]bool) (n int) {
	switch v.Kind() {
	case reflect.String:
		return v.Len() + 16
	case reflect.Pointer, reflect.Map, reflect.Slice:
		if v.IsNil() || seen[v.Pointer()] && v.Kind() != reflect.Slice {
			return 8
		}
		seen[v.Pointer()] = true
	}
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			return 8
		}
		return 16 + weight(v.Elem(), seen)
	case reflect.Slice, reflect.Array:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			return v.Len() + 24
		}
		for i := range v.Len() {
			n += weight(v.Index(i), seen)
		}
	case reflect.Map:
		for i := v.MapRange(); i.Next(); {
			n += weight(i.Key(), seen) + weight(i.Value(), seen)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += weight(v.Field(i), seen)
		}
	default:
		n = int(v.Type().Size())
	}
	return n
}

// answerRaw answers every connection with bytes, and closes it.
func answerRaw(text string) func(t *testing.T) string {
	return func(t *testing.T) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan struct{})
		t.Cleanup(func() { l.Close(); <-done })
		go func() {
			defer close(done)
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = http.ReadRequest(bufio.NewReader(conn))
				_, _ = conn.Write([]byte(text))
				conn.Close()
			}
		}()
		return "http://" + l.Addr().String()
	}
}

func answerTLS(certificate tls.Certificate) func(t *testing.T) string {
	return func(t *testing.T) string {
		s := startServer(t, serveManifest, func(s *httptest.Server) {
			s.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
			s.StartTLS()
		})
		return s.URL
	}
}

// TestKeptErrorsAreSmall: errors are remembered, so what a host sends with a failure must
// not be in them, and their text is short. What callers ask of them stays.
func TestKeptErrorsAreSmall(t *testing.T) {
	names := func(n int) (all []string) {
		for i := range n {
			all = append(all, fmt.Sprintf("host-%04d.example.com", i))
		}
		return all
	}
	long := strings.Repeat("x", 8<<10)
	for name, test := range map[string]struct {
		url  func(t *testing.T) string
		want Kind
		pass bool
		says string
	}{
		"self-made certificates": {answerTLS(chain(t, &x509.Certificate{DNSNames: names(200)}, 5)), Untrusted, false, "unknown authority"},
		"one certificate":        {answerTLS(chain(t, &x509.Certificate{DNSNames: names(3)}, 0)), Untrusted, false, "unknown authority"},
		"plain HTTP": {func(t *testing.T) string {
			return strings.Replace(newServer(t, serveManifest).URL, "http:", "https:", 1)
		}, Untrusted, false, "does not speak TLS"},
		"a header without a colon": {answerRaw("HTTP/1.1 200 OK\r\n" + long + "\r\n\r\n"), Invalid, false, "no answer of HTTP"},
		"no HTTP":                  {answerRaw(long + "\r\n\r\n"), Invalid, false, "no answer of HTTP"},
		"a long status":            {answerRaw("HTTP/1.1 2" + long + "\r\n\r\n"), Invalid, false, "no answer of HTTP"},
		"closed":                   {answerRaw(""), Unreachable, true, "no connection"},
		"cut off":                  {answerRaw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\nEtag: " + long + "\r\n\r\n{"), Invalid, true, "cut the answer off"},
		"a redirect to nowhere": {func(t *testing.T) string {
			return newServer(t, upstreamtest.Status(302, "Location", "ftp://h/"+long)).URL
		}, Forbidden, false, "refusing to go"},
	} {
		c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: test.url(t)}}})
		err := manifestError(t, c, image)
		e := wantError(t, err, test.want, test.says)
		if n := weight(reflect.ValueOf(err), map[uintptr]bool{}); n > 4<<10 {
			t.Errorf("%s: the error keeps %d bytes: %.200v", name, n, e)
		}
		if MayPass(err) != test.pass {
			t.Errorf("%s: may pass: %t: %v", name, !test.pass, err)
		}
	}
}
