package front

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/brief"
	"github.com/waveproxy/waveproxy/upstream"
)

// fileWriter records the readers that it reads from.
type fileWriter struct {
	*httptest.ResponseRecorder
	files int
}

func (f *fileWriter) ReadFrom(r io.Reader) (int64, error) {
	if l, ok := r.(*io.LimitedReader); ok {
		if _, ok := l.R.(*os.File); ok {
			f.files++
		}
	}
	return io.Copy(f.ResponseRecorder, r)
}

// TestFilesReachTheSocket: net/http sends a file with sendfile if it is given
// the file behind at most one LimitedReader. No wrapper of ours may hide it.
func TestFilesReachTheSocket(t *testing.T) {
	store, err := blobstore.NewDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	blob := make([]byte, 3*piece+5)
	_, _ = rand.Read(blob)
	desc := ocispec.Descriptor{Digest: digest.FromBytes(blob), Size: int64(len(blob)), MediaType: "application/octet-stream"}
	if err := store.Put(t.Context(), desc.Digest, bytes.NewReader(blob)); err != nil {
		t.Fatal(err)
	}
	for header, want := range map[string]struct {
		body  []byte
		files int
	}{
		"":           {blob, 4},
		"bytes=5-10": {blob[5:11], 1},
	} {
		w := &fileWriter{ResponseRecorder: httptest.NewRecorder()}
		r := httptest.NewRequest("GET", "/", nil)
		r.Header.Set("Range", header)
		Front{Log: slog.New(slog.DiscardHandler), Stall: time.Minute}.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := blobstore.Serve(w, r, store, desc); err != nil {
				t.Error(err)
			}
		})).ServeHTTP(w, r)
		if !bytes.Equal(w.Body.Bytes(), want.body) {
			t.Errorf("%q: %d bytes, want %d", header, w.Body.Len(), len(want.body))
		}
		if w.files != want.files {
			t.Errorf("%q: %d pieces of a file were passed on, want %d", header, w.files, want.files)
		}
	}
}

// TestStalledClientIsCut: a client that reads nothing holds its connection for no
// longer than Stall. A client that reads a little keeps it.
func TestStalledClientIsCut(t *testing.T) {
	const stall = 300 * time.Millisecond
	ended := make(chan Request, 2)
	large := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(large, make([]byte, 64<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]http.HandlerFunc{
		"a file": func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, large) },
		"a stream": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "67108864")
			if _, err := io.Copy(struct{ io.Writer }{w}, io.LimitReader(zeros{}, 64<<20)); err != nil {
				RecordOf(r.Context()).Err = err
				panic(http.ErrAbortHandler)
			}
		},
		"one write": func(w http.ResponseWriter, r *http.Request) {
			if _, err := w.Write(make([]byte, 64<<20)); err != nil {
				RecordOf(r.Context()).Err = err
				panic(http.ErrAbortHandler)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			front := Front{Log: slog.New(slog.DiscardHandler), Stall: stall, Observe: func(r Request) { ended <- r }}
			s := httptest.NewServer(front.Handler(serve))
			defer s.Close()
			conn, err := net.Dial("tcp", s.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			// A slow client first: it must not be cut.
			for range 10 {
				time.Sleep(stall / 5)
				if _, err := io.ReadFull(conn, make([]byte, 2<<20)); err != nil {
					t.Fatalf("a slow client was cut: %v", err)
				}
			}
			select {
			case r := <-ended:
				if r.Bytes >= 64<<20 {
					t.Errorf("all %d bytes were taken", r.Bytes)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("a client that takes nothing holds its connection")
			}
		})
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

// TestKeepAliveAfterStall: the deadline of a request does not end the next one.
func TestKeepAliveAfterStall(t *testing.T) {
	const stall = 100 * time.Millisecond
	s := httptest.NewServer(Front{Log: slog.New(slog.DiscardHandler), Stall: stall}.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "answer")
	})))
	defer s.Close()
	for range 3 {
		resp, err := s.Client().Get(s.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "answer" {
			t.Errorf("%q, %v", body, err)
		}
		time.Sleep(2 * stall)
	}
}

// TestSlowHandler: a handler may take longer than Stall before it answers.
func TestSlowHandler(t *testing.T) {
	const stall = 100 * time.Millisecond
	s := httptest.NewServer(Front{Log: slog.New(slog.DiscardHandler), Stall: stall}.Handler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(3 * stall)
		_, _ = io.WriteString(w, "answer")
	})))
	defer s.Close()
	resp, err := s.Client().Get(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "answer" {
		t.Errorf("%q, %v", body, err)
	}
}

// TestManyHeaders: a request of thousands of short headers, or of trailers, is refused
// before it is handled, and holds nothing.
func TestManyHeaders(t *testing.T) {
	s := httptest.NewServer(Front{Log: slog.New(slog.DiscardHandler)}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		t.Errorf("a request of %d headers is handled", len(r.Header))
	})))
	defer s.Close()
	for name, change := range map[string]func(*http.Request){
		"names": func(r *http.Request) {
			for i := range maxHeaders + 1 {
				r.Header.Set("X-"+strconv.Itoa(i), "")
			}
		},
		"values of one name": func(r *http.Request) { r.Header["A"] = make([]string, maxHeaders+1) },
		"values of two names": func(r *http.Request) {
			r.Header["A"], r.Header["B"] = make([]string, maxHeaders/2), make([]string, maxHeaders/2+1)
		},
		"trailers": func(r *http.Request) {
			r.Body, r.ContentLength, r.Trailer = io.NopCloser(strings.NewReader("x")), -1, http.Header{"X-A": nil}
		},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		change(r)
		resp, err := s.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge || !resp.Close {
			t.Errorf("%s: %s, closed %t", name, resp.Status, resp.Close)
		}
	}
}

// TestHeadersAreCharged: values without text cost as much as names.
func TestHeadersAreCharged(t *testing.T) {
	var limits budget.Limits
	limits[budget.Memory] = budget.Limit{Client: 1 << 20, All: 1 << 30}
	ledger := budget.NewLedger(limits)
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header["A"] = make([]string, maxHeaders)
	b := ledger.Open("a")
	if err := charge(b, r); err != nil {
		t.Fatal(err)
	}
	if held := ledger.Held(budget.Memory); held < requestCost+headerCost*maxHeaders {
		t.Errorf("%d bytes are held", held)
	}
	b.Leave()
}

// TestLongLines: whatever is long in a request or its error, its line in the log is short.
func TestLongLines(t *testing.T) {
	long := strings.Repeat("\x7f", 1<<20)
	for name, change := range map[string]func(*http.Request){
		"agent":  func(r *http.Request) { r.Header.Set("User-Agent", long) },
		"path":   func(r *http.Request) { r.URL.Path = "/v2/" + long },
		"method": func(r *http.Request) { r.Method = long },
		"user":   func(r *http.Request) { SetUser(r.Context(), long) },
		"error":  func(r *http.Request) { RecordOf(r.Context()).Err = errors.New(long) },
		"answer": func(r *http.Request) { WriteAPIError(httptest.NewRecorder(), r, errors.New(long)) },
	} {
		var log bytes.Buffer
		Front{Log: slog.New(slog.NewJSONHandler(&log, nil))}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if name == "user" || name == "error" || name == "answer" {
				change(r)
			}
		})).ServeHTTP(httptest.NewRecorder(), func() *http.Request {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if name == "agent" || name == "path" || name == "method" {
				change(r)
			}
			return r
		}())
		if log.Len() == 0 || log.Len() > 32<<10 {
			t.Errorf("%s: a line of %d bytes", name, log.Len())
		}
	}
}

// TestShortProblems: no error becomes a long answer, wherever its text comes from.
func TestShortProblems(t *testing.T) {
	long := strings.Repeat("\x7f", 1<<20)
	for name, err := range map[string]error{
		"refusal":  Refuse(http.StatusBadRequest, Unsupported, "format %q", long),
		"limited":  Limited(time.Second, "user %q", long),
		"image":    augment.Errorf("entry %q", long),
		"upstream": &upstream.Error{Op: "read", Name: long, Err: errors.New(long)},
	} {
		w := httptest.NewRecorder()
		WriteAPIError(w, httptest.NewRequest(http.MethodGet, "/", nil), err)
		if w.Body.Len() > 2*brief.Max {
			t.Errorf("%s: an answer of %d bytes", name, w.Body.Len())
		}
	}
}
