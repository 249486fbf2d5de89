package blobstore_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
	"github.com/waveproxy/waveproxy/internal/byterange"
)

const mediaType = "application/vnd.example.layer"

func describe(data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func TestServe(t *testing.T) {
	data := storetest.Bytes(100_000, "<html>") // sniffing would find another media type
	etag := `"` + digest.FromBytes(data).String() + `"`
	const size = "100000"
	tests := map[string]struct {
		header [2]string
		status int
		body   []byte
		want   map[string]string // "" means that the header must be absent
	}{
		"whole":         {status: 200, body: data, want: map[string]string{"Content-Length": size, "Content-Range": ""}},
		"from to":       {[2]string{"Range", "bytes=100-199"}, 206, data[100:200], map[string]string{"Content-Length": "100", "Content-Range": "bytes 100-199/" + size}},
		"from":          {[2]string{"Range", "bytes=99000-"}, 206, data[99_000:], map[string]string{"Content-Length": "1000", "Content-Range": "bytes 99000-99999/" + size}},
		"from zero":     {[2]string{"Range", "bytes=0-"}, 206, data, map[string]string{"Content-Length": size, "Content-Range": "bytes 0-99999/" + size}},
		"last":          {[2]string{"Range", "bytes=-7"}, 206, data[99_993:], map[string]string{"Content-Length": "7", "Content-Range": "bytes 99993-99999/" + size}},
		"beyond":        {[2]string{"Range", "bytes=99999-200000"}, 206, data[99_999:], map[string]string{"Content-Length": "1"}},
		"outside":       {[2]string{"Range", "bytes=100000-"}, 416, nil, map[string]string{"Content-Range": "bytes */" + size, "Cache-Control": ""}},
		"same ETag":     {[2]string{"If-None-Match", etag}, 304, nil, map[string]string{"Etag": etag, "Content-Length": ""}},
		"other ETag":    {[2]string{"If-None-Match", `"sha256:00"`}, 200, data, nil},
		"If-Range":      {[2]string{"If-Range", etag}, 200, data, nil},
		"modified when": {[2]string{"If-Modified-Since", "Mon, 01 Jan 2029 00:00:00 GMT"}, 200, data, map[string]string{"Last-Modified": ""}},
	}
	atHand := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(t, w, blobstore.ServeBytes(w, r, data, describe(data)))
	}))
	t.Cleanup(atHand.Close)
	for kind, url := range map[string]string{
		"Dir": serve(t, openDir(t, t.TempDir()), data), "Mem": serve(t, blobstore.NewMem(), data), "bytes": atHand.URL,
	} {
		for name, tt := range tests {
			for _, method := range []string{http.MethodGet, http.MethodHead} {
				t.Run(kind+"/"+method+"/"+name, func(t *testing.T) {
					if tt.header[0] == "Range" && method == http.MethodHead { // which has no ranges
						tt.status, tt.body, tt.want = 200, data, map[string]string{"Content-Length": size, "Content-Range": ""}
					}
					resp, body := request(t, method, url, tt.header)
					if resp.StatusCode != tt.status {
						t.Fatalf("status %d, want %d", resp.StatusCode, tt.status)
					}
					if method == http.MethodHead && len(body) != 0 {
						t.Errorf("HEAD has a body of %d bytes", len(body))
					}
					if method == http.MethodGet && tt.status < 300 && !bytes.Equal(body, tt.body) {
						t.Errorf("wrong body of %d bytes, want %d", len(body), len(tt.body))
					}
					want := map[string]string{}
					if tt.status < 300 {
						want = map[string]string{
							"Content-Type": mediaType, "Docker-Content-Digest": digest.FromBytes(data).String(), "Etag": etag,
							"Cache-Control": "private, max-age=31536000, immutable, no-transform", "Accept-Ranges": "bytes",
							"Content-Length": strconv.Itoa(len(tt.body)),
						}
					}
					for k, v := range tt.want {
						want[k] = v
					}
					for k, v := range want {
						if got := resp.Header.Get(k); got != v {
							t.Errorf("%s is %q, want %q", k, got, v)
						}
					}
				})
			}
		}
	}
}

func TestServeEmpty(t *testing.T) {
	resp, body := request(t, http.MethodGet, serve(t, blobstore.NewMem(), nil), [2]string{"Range", "bytes=0-"})
	if resp.StatusCode != 200 || len(body) != 0 || resp.Header.Get("Content-Length") != "0" {
		t.Errorf("status %d, %d bytes, header %v", resp.StatusCode, len(body), resp.Header)
	}
}

func serve(t *testing.T, s blobstore.Store, data []byte) (url string) {
	t.Helper()
	desc := describe(data)
	if err := s.Put(t.Context(), desc.Digest, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer(t, w, blobstore.Serve(w, r, s, desc))
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// answer sends 416 for a range that is outside, as package front does.
func answer(t *testing.T, w http.ResponseWriter, err error) {
	t.Helper()
	if _, outside := errors.AsType[*byterange.Unsatisfiable](err); outside {
		w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
	} else if err != nil {
		t.Error(err)
	}
}

func request(t *testing.T, method, url string, header [2]string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if header[0] != "" {
		req.Header.Set(header[0], header[1])
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, body
}

func TestServeFails(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	data := storetest.Bytes(1000, "serve")
	desc := describe(data)
	if err := s.Put(t.Context(), desc.Digest, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	path := files(t, dir)[0]
	absent, invalid := describe([]byte("absent")), describe(nil)
	invalid.Digest = "sha256:../x"
	tests := []struct {
		name   string
		desc   ocispec.Descriptor
		size   int64 // of the file
		absent bool
		want   string
	}{
		{"absent", absent, 1000, true, absent.Digest.String()},
		{"invalid digest", invalid, 1000, false, "sha256:../x"},
		{"truncated", desc, 999, false, "damaged"},
		{"empty", desc, 0, false, "damaged"},
		{"longer", desc, 1001, false, "damaged"},
	}
	for _, tt := range tests {
		for _, method := range []string{http.MethodGet, http.MethodHead} {
			t.Run(tt.name+"/"+method, func(t *testing.T) {
				if err := os.Truncate(path, tt.size); err != nil {
					t.Fatal(err)
				}
				w := &writer{header: http.Header{}}
				r := httptest.NewRequestWithContext(t.Context(), method, "/", nil)
				err := blobstore.Serve(w, r, s, tt.desc)
				if err == nil || !strings.Contains(err.Error(), tt.want) {
					t.Errorf("error %v, want one with %q", err, tt.want)
				}
				if got := errors.Is(err, blobstore.ErrNotFound); got != tt.absent {
					t.Errorf("error %v is ErrNotFound: %v", err, got)
				}
				if w.calls != nil || len(w.header) != 0 {
					t.Errorf("wrote %q, header %v; want nothing", w.calls, w.header)
				}
			})
		}
	}
}

// sendfile needs the bare file: net/http looks for an *os.File, or a
// LimitedReader over one.
func TestServeFile(t *testing.T) {
	s := openDir(t, t.TempDir())
	data := storetest.Bytes(1000, "sendfile")
	desc := describe(data)
	if err := s.Put(t.Context(), desc.Digest, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	for _, spec := range []string{"", "bytes=10-19"} {
		w := &writer{header: http.Header{}}
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
		if spec != "" {
			r.Header.Set("Range", spec)
		}
		if err := blobstore.Serve(w, r, s, desc); err != nil {
			t.Fatal(err)
		}
		limited, ok := w.source.(*io.LimitedReader)
		if !ok {
			t.Fatalf("range %q: the body comes from a %T, want *io.LimitedReader", spec, w.source)
		}
		if _, ok := limited.R.(*os.File); !ok {
			t.Errorf("range %q: the body comes from a limited %T, want *os.File", spec, limited.R)
		}
	}
}

// writer records the calls of its methods.
type writer struct {
	header http.Header
	calls  []string
	source io.Reader
}

func (w *writer) Header() http.Header { return w.header }

func (w *writer) WriteHeader(status int) { w.calls = append(w.calls, strconv.Itoa(status)) }

func (w *writer) Write(p []byte) (int, error) {
	w.calls = append(w.calls, "write")
	return len(p), nil
}

func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	w.calls = append(w.calls, "read from")
	w.source = r
	return io.Copy(io.Discard, r)
}
