package upstream

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// raw is a host that writes what it likes to each connection and closes it.
func raw(t *testing.T, text string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 16))
			_, _ = io.WriteString(conn, text)
			_ = conn.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}
	}()
	return "http://" + l.Addr().String()
}

// secure is a host with TLS of its own kind.
func secure(t *testing.T, change func(*tls.Config)) string {
	t.Helper()
	return startServer(t, serveManifest, func(s *httptest.Server) {
		s.TLS = &tls.Config{}
		change(s.TLS)
		s.StartTLS()
	}).URL
}

// TestMayPass: an error that stays until a person acts is told from one that may pass.
func TestMayPass(t *testing.T) {
	at := func(h http.HandlerFunc) string { return newServer(t, h).URL }
	location := func(to string) string {
		return at(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", to)
			w.WriteHeader(http.StatusFound)
		})
	}
	down := newServer(t, serveManifest)
	down.Close()
	token := func(h http.HandlerFunc) string {
		b := &bearer{}
		s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				h(w, r)
				return
			}
			b.registry(w, r)
		})
		b.realm = s.URL + "/token"
		return s.URL
	}
	for name, test := range map[string]struct {
		url  string
		want bool
	}{
		"no such host":           {"https://ghrc.invalid", false},
		"DNS fails":              {"https://servfail.invalid", true},
		"DNS refuses":            {"https://refused.invalid", true},
		"unknown authority":      {secure(t, func(*tls.Config) {}), false},
		"no TLS":                 {strings.Replace(down.URL, "http:", "https:", 1), true},
		"plain HTTP behind TLS":  {strings.Replace(at(serveManifest), "http:", "https:", 1), false},
		"old TLS":                {secure(t, func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }), false},
		"a client's certificate": {secure(t, func(c *tls.Config) { c.ClientAuth = tls.RequireAnyClientCert; c.MaxVersion = tls.VersionTLS12 }), false},
		"TLS without certificate": {secure(t, func(c *tls.Config) {
			c.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return nil, errors.New("not yet") }
		}), true},
		"SSH":                    {raw(t, "SSH-2.0-OpenSSH_9.6\r\n"), false},
		"a mail server":          {raw(t, "220 mx.example.org ESMTP\r\n"), false},
		"no header":              {raw(t, "HTTP/1.1 200 OK\r\nnonsense\r\n\r\n"), false},
		"hundreds of headers":    {raw(t, "HTTP/1.1 200 OK\r\n"+strings.Repeat("A: b\r\n", 300)+"\r\n"), false},
		"large headers":          {raw(t, "HTTP/1.1 200 OK\r\nA: "+strings.Repeat("b", 80<<10)+"\r\n\r\n"), false},
		"nothing":                {raw(t, ""), true},
		"half a header":          {raw(t, "HTTP/1.1 200 OK\r\nA: b\r\n"), true},
		"refused connection":     {down.URL, true},
		"reset":                  {at(upstreamtest.Reset), true},
		"cut off":                {raw(t, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), true},
		"redirect to FTP":        {location("ftp://example.org/x"), false},
		"redirect to a user":     {location("http://u:p@example.org/x"), false},
		"redirect to private":    {location("http://10.1.2.3/x"), false},
		"redirect to itself":     {location(manifestPath), false},
		"redirect to nothing":    {location("http://ghrc.invalid/x"), false},
		"token page":             {token(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>") }), false},
		"token service is busy":  {token(status(http.StatusServiceUnavailable)), true},
		"manifest without bytes": {at(func(http.ResponseWriter, *http.Request) {}), false},
		"manifest of a terabyte": {at(func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "1099511627776") }), false},
		"no such method":         {at(status(http.StatusMethodNotAllowed)), false},
		"status 501":             {at(status(http.StatusNotImplemented)), false},
		"captive portal":         {at(status(http.StatusNetworkAuthenticationRequired)), false},
		"server error":           {at(status(http.StatusInternalServerError)), true},
		"origin is unreachable":  {at(status(521)), true},
		"too many requests":      {at(status(http.StatusTooManyRequests)), true},
		"request took too long":  {at(status(http.StatusRequestTimeout)), true},
		"absent":                 {at(status(http.StatusNotFound)), false},
		"private":                {at(status(http.StatusForbidden)), false},
	} {
		c, _ := newClient(t, Options{Registries: map[string]Registry{"example.org": {URL: test.url}}})
		c.hops.guard.plain.Resolver, c.hops.guard.public.Resolver = failingNames(t), failingNames(t)
		err := manifestError(t, c, image)
		if MayPass(err) != test.want {
			t.Errorf("%s: MayPass is %v: %v", name, !test.want, err)
		}
		if e, ok := errors.AsType[*Error](err); !ok || e.Kind == 0 {
			t.Errorf("%s: %T %v", name, err, err)
		}
	}
}

// failingNames is a resolver that knows no name. The first label of a name chooses
// what else goes wrong.
func failingNames(t *testing.T) *net.Resolver {
	t.Helper()
	return resolver(t, func(query []byte) []byte {
		var m dnsmessage.Message
		if m.Unpack(query) != nil || len(m.Questions) != 1 {
			return nil
		}
		m.Response, m.Additionals, m.RCode = true, nil, dnsmessage.RCodeNameError
		switch label, _, _ := strings.Cut(m.Questions[0].Name.String(), "."); label {
		case "servfail":
			m.RCode = dnsmessage.RCodeServerFailure
		case "refused":
			m.RCode = dnsmessage.RCodeRefused
		}
		answer, _ := m.Pack()
		return answer
	})
}
