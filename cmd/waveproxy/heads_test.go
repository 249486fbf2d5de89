package main

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// startHeads starts a server whose handler answers with the size of the body, and returns
// how to connect to it.
func startHeads(t *testing.T, overTLS, http2 bool) (dial func() net.Conn, address string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes", n)
	}), slog.New(slog.DiscardHandler))
	server.ConnState = newConnections(nil).changed
	t.Cleanup(func() { server.Close() })
	address = listener.Addr().String()
	if !overTLS {
		go server.Serve(&headListener{Listener: listener})
		return func() net.Conn { return connect(t, address) }, address
	}
	cert, key := filepath.Join(t.TempDir(), "cert"), filepath.Join(t.TempDir(), "key")
	writePair(t, cert, key, "a", time.Now())
	pair, err := newCertificate(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	go serveTLS(server, listener, pair, http2)
	return func() net.Conn { return tls.Client(connect(t, address), &tls.Config{InsecureSkipVerify: true}) }, address
}

func connect(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	return conn
}

func request(headers int, body string) string {
	return "POST / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A:\r\n", headers) + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// TestHeadLines: a connection is closed when a request, the first or a later one, has too
// many lines of headers, before they are whole; the lines of bodies do not count.
func TestHeadLines(t *testing.T) {
	for name, overTLS := range map[string]bool{"plain": false, "TLS": true} {
		t.Run(name, func(t *testing.T) {
			dial, _ := startHeads(t, overTLS, false)
			lines := strings.Repeat("\n", 3000)
			for name, test := range map[string]struct {
				sent    []string
				answers int
			}{
				"short":                {[]string{request(3, "x")}, 1},
				"long body":            {[]string{request(100, lines), request(100, lines), request(1, lines+lines)}, 3},
				"two in one":           {[]string{request(100, "x") + request(100, lines)}, 2},
				"many lines":           {[]string{"GET / HTTP/1.1\r\n" + strings.Repeat("A:\r\n", 4000)}, 0},
				"without returns":      {[]string{"GET / HTTP/1.1\n" + strings.Repeat("A:\n", 4000)}, 0},
				"folded":               {[]string{"GET / HTTP/1.1\r\nA: b\r\n" + strings.Repeat(" \r\n", 4000)}, 0},
				"second":               {[]string{request(3, "x"), "GET / HTTP/1.1\r\n" + strings.Repeat("A:\r\n", 4000)}, 1},
				"trailers":             {[]string{"GET / HTTP/1.1\r\nA: b\r\ntRailer: " + strings.Repeat("aa,", 10000)}, 0},
				"nearly trailers":      {[]string{strings.Replace(request(1, "x"), "A:", "Trailers: a", 1)}, 1},
				"empty line, then all": {[]string{"\r\nGET / HTTP/1.1\r\n" + strings.Repeat("A:\r\n", 4000)}, 0},
			} {
				conn := dial()
				in := bufio.NewReader(conn)
				answers := 0
				for _, text := range test.sent {
					if _, err := io.WriteString(conn, text); err != nil {
						break
					}
					for range strings.Count(text, "POST") {
						resp, err := http.ReadResponse(in, nil)
						if err != nil || resp.StatusCode != http.StatusOK {
							t.Errorf("%s: %v", name, err)
							break
						}
						_, _ = io.Copy(io.Discard, resp.Body)
						answers++
					}
				}
				if answers != test.answers {
					t.Errorf("%s: %d answers, want %d", name, answers, test.answers)
				}
				if !strings.Contains(test.sent[len(test.sent)-1], "GET") {
					continue
				}
				if rest, err := io.ReadAll(in); strings.Contains(string(rest), "bytes") || err != nil && strings.Contains(err.Error(), "timeout") {
					t.Errorf("%s: the connection stays: %q, %v", name, rest, err)
				}
			}
		})
	}
}

// TestLongGreetings: a greeting that is larger than any client's ends the connection
// before it is whole; those of clients pass.
func TestLongGreetings(t *testing.T) {
	for name, http2 := range map[string]bool{"HTTP/1.1": false, "HTTP/2": true} {
		t.Run(name, func(t *testing.T) {
			_, address := startHeads(t, true, http2)
			names := make([]string, 6000)
			for i := range names {
				names[i] = "a"
			}
			for _, test := range []struct {
				config *tls.Config
				ok     bool
			}{
				{&tls.Config{}, true},
				{&tls.Config{NextProtos: []string{"h2", "http/1.1"}}, true},
				{&tls.Config{NextProtos: []string{strings.Repeat("a", 200), strings.Repeat("b", 200), "http/1.1"}, MaxVersion: tls.VersionTLS12}, true},
				{&tls.Config{NextProtos: append(names, "http/1.1")}, false},
				{&tls.Config{NextProtos: append(names, "http/1.1"), MaxVersion: tls.VersionTLS12}, false},
			} {
				test.config.InsecureSkipVerify = true
				conn := tls.Client(connect(t, address), test.config)
				if err := conn.Handshake(); (err == nil) != test.ok {
					t.Errorf("%d names: %v", len(test.config.NextProtos), err)
				}
			}
		})
	}
}

// TestPlainToTLS: a client that speaks plain HTTP to a server with TLS is told.
func TestPlainToTLS(t *testing.T) {
	_, address := startHeads(t, true, false)
	for _, method := range []string{"GET", "HEAD", "POST", "PUT", "DELETE"} {
		conn := connect(t, address)
		_, _ = io.WriteString(conn, method+" / HTTP/1.1\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %v", method, err)
		}
	}
}
