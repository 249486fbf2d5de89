package front

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestRefusedBody: a client that sends its whole body before it reads sees the answer
// that came without reading it.
func TestRefusedBody(t *testing.T) {
	const size = 12 << 20
	for name, read := range map[string]int64{"unread": 0, "in the middle": 64 << 10} {
		for _, chunked := range []bool{false, true} {
			s := httptest.NewServer(Front{Log: slog.New(slog.DiscardHandler)}.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if _, err := io.CopyN(io.Discard, r.Body, read); err != nil {
					t.Error(err)
				}
				w.Header().Set("Connection", "close")
				WriteAPIError(w, r, Refuse(http.StatusUnauthorized, Unauthorized, "no login"))
			})))
			defer s.Close()
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			req, err := http.NewRequest(http.MethodPost, s.URL, io.LimitReader(endless{}, size))
			if err != nil {
				t.Fatal(err)
			}
			if !chunked {
				req.ContentLength = size
			}
			if err := req.Write(conn); err != nil {
				t.Errorf("%s, chunked %t: the connection was closed while the body came: %v", name, chunked, err)
				continue
			}
			resp, err := http.ReadResponse(bufio.NewReader(conn), req)
			if err != nil {
				t.Errorf("%s, chunked %t: %v", name, chunked, err)
				continue
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "no login") {
				t.Errorf("%s, chunked %t: %d %s (%v)", name, chunked, resp.StatusCode, text, err)
			}
		}
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

// TestRestIsBounded: a body that is far too long, one that is wanted and one that was
// read to its end are not read any further.
func TestRestIsBounded(t *testing.T) {
	for name, test := range map[string]struct {
		status int
		length int64
		read   int64
		header string
	}{
		"wanted":    {http.StatusOK, 100, 50, ""},
		"too long":  {http.StatusUnauthorized, maxRest + 2, 1, ""},
		"ended":     {http.StatusUnauthorized, 100, 100, ""},
		"expecting": {http.StatusUnauthorized, 100, 0, "100-continue"},
	} {
		r := httptest.NewRequest(http.MethodPost, "/", nil)
		r.Header.Set("Expect", test.header)
		b := &incoming{ReadCloser: io.NopCloser(endless{}), left: test.length}
		if _, err := io.CopyN(io.Discard, b, test.read); err != nil {
			t.Fatal(err)
		}
		w := &connected{ResponseRecorder: httptest.NewRecorder()}
		b.finish(w, r, test.status)
		if want := test.length - test.read; b.left != want || w.deadlines != 0 {
			t.Errorf("%s: %d bytes are left, want %d", name, b.left, want)
		}
	}
	w := &connected{ResponseRecorder: httptest.NewRecorder()}
	b := &incoming{ReadCloser: io.NopCloser(endless{}), left: -1}
	var total counter
	b.ReadCloser = io.NopCloser(io.TeeReader(endless{}, &total))
	b.finish(w, httptest.NewRequest(http.MethodPost, "/", nil), http.StatusUnauthorized)
	if total != maxRest || w.deadlines != 1 {
		t.Errorf("%d bytes were read of a body without an end, %d deadlines", total, w.deadlines)
	}
}

// connected is a writer that can set deadlines.
type connected struct {
	*httptest.ResponseRecorder
	deadlines int
}

func (c *connected) SetReadDeadline(time.Time) error { c.deadlines++; return nil }

type counter int64

func (c *counter) Write(p []byte) (int, error) { *c += counter(len(p)); return len(p), nil }
