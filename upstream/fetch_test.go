package upstream

import (
	"io"
	"net/http"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
)

func TestFetch(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		for name, want := range map[string]string{"Authorization": "", "Referer": "", "Accept-Encoding": "identity"} {
			if got := r.Header.Get(name); got != want {
				t.Errorf("%s: %q", name, got)
			}
		}
		switch r.URL.Path {
		case "/old":
			http.Redirect(w, r, "/sized?signature=1", http.StatusMovedPermanently)
		case "/sized":
			serveBlob(w, r)
		default:
			_, _ = io.WriteString(w, "01234")
			w.(http.Flusher).Flush()
			_, _ = io.WriteString(w, "56789")
		}
	})
	o := listed(s)
	o.Keychain = keychain(auth.Credential{Username: "ci", Password: "hunter2"})
	c, _ := newClient(t, o)
	for path, want := range map[string]int64{"/sized": 10, "/old": 10, "/chunked": -1} {
		r, size, err := c.Fetch(t.Context(), s.URL+path)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		r.Close()
		if err != nil || string(data) != blobData || size != want {
			t.Errorf("%s: %q, size %d, %v", path, data, size, err)
		}
	}
}

func TestFetchErrors(t *testing.T) {
	s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/absent":
			status(404)(w, r)
		case "/private":
			ecr(w, r)
		case "/partial":
			status(206)(w, r)
		case "/loop":
			http.Redirect(w, r, "/loop", http.StatusFound)
		default:
			cut(w, r)
		}
	})
	o := listed(s)
	o.Keychain = keychain(auth.Credential{Username: "AWS", Password: "hunter2"})
	c, _ := newClient(t, o)
	tests := []struct {
		url  string
		want Kind
		says string
	}{
		{s.URL + "/absent?signature=1", NotFound, "fetch layer " + s.URL + "/absent: "},
		{s.URL + "/private", Unauthorized, "without credentials"},
		{s.URL + "/partial", Failed, "206"},
		{s.URL + "/loop", Failed, "more than 10 redirects"},
		{"http://u:hunter2@" + s.Host() + "/x", Forbidden, "without a user name"},
		{"ftp://" + s.Host() + "/x?signature=1", Forbidden, "want http:// or https://"},
		{"/etc/passwd", Forbidden, "want http:// or https://"},
		{"http://u:hunter2@exa mple/?signature=1", Forbidden, "want http:// or https://"},
		{"http:opaque?signature=1", Forbidden, "want http:// or https://"},
	}
	for _, test := range tests {
		t.Run(test.url, func(t *testing.T) {
			_, _, err := c.Fetch(t.Context(), test.url)
			if e := wantError(t, err, test.want, test.says); e.Registry != "" {
				t.Errorf("registry %s", e.Registry)
			}
		})
	}
	r, _, err := c.Fetch(t.Context(), s.URL+"/cut?signature=1")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	_, err = io.Copy(io.Discard, r)
	wantError(t, err, Invalid, "cut the answer off")
}

func TestRedactURL(t *testing.T) {
	for raw, want := range map[string]string{
		"https://example.org/a%2Fb/layer.tar.gz": "https://example.org/a%2Fb/layer.tar.gz",
		"https://u:hunter2@example.org/x?y#z":    "https://example.org/x",
		"https://exa mple/?signature":            "(not a URL with a host)",
		"s3cr3t":                                 "(not a URL with a host)",
	} {
		if got := RedactURL(raw); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}
