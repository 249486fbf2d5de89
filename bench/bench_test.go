//go:build linux

package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestDrain: the client that inspects no bytes still notices a wrong answer.
func TestDrain(t *testing.T) {
	dir := t.TempDir()
	certificate, key := filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	pool, err := makeCertificate(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.LoadX509KeyPair(certificate, key)
	if err != nil {
		t.Fatal(err)
	}
	l := &lab{client: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}}
	const size = 3<<20 + 17
	blob := layer{Descriptor: ocispec.Descriptor{Digest: digest.FromString("blob"), Size: size}}
	send := func(status int, promised, sent int64) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(promised))
			w.WriteHeader(status)
			_, _ = io.CopyN(w, zeros{}, sent)
		}
	}
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		says   string // "" means success
	}{
		"whole":         {send(http.StatusOK, size, size), ""},
		"cut":           {send(http.StatusOK, size, size-1<<20), ""},
		"another size":  {send(http.StatusOK, size-1, size-1), "promises"},
		"not found":     {send(http.StatusNotFound, size, size), "404"},
		"no length":     {func(w http.ResponseWriter, _ *http.Request) { _, _ = io.CopyN(w, zeros{}, size) }, "no Content-Length"},
		"nothing comes": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, "EOF"},
	} {
		for _, scheme := range []string{"http", "https"} {
			t.Run(name+" "+scheme, func(t *testing.T) {
				up := httptest.NewUnstartedServer(test.answer)
				up.TLS = &tls.Config{Certificates: []tls.Certificate{pair}}
				if scheme == "https" {
					up.StartTLS()
				} else {
					up.Start()
				}
				defer up.Close()
				var delivered atomic.Int64
				d := l.newDrain(&server{base: up.URL}, &delivered)
				defer d.close()
				_, err := d.get(t.Context(), "r", blob)
				switch {
				case name == "cut":
					if err == nil {
						t.Error("a blob that ended early was taken for whole")
					}
				case test.says != "":
					if err == nil || !strings.Contains(err.Error(), test.says) {
						t.Errorf("error %v, want one that says %q", err, test.says)
					}
				case err != nil:
					t.Error(err)
				case delivered.Load() < size:
					t.Errorf("counted %d bytes of %d", delivered.Load(), size)
				}
			})
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// TestImages: every run has the same bytes.
func TestImages(t *testing.T) {
	var typical, index [2]digest.Digest
	for i := range 2 {
		im, err := makeImages(t.TempDir(), 2, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		typical[i], index[i] = im.typical.Digest, im.index.Digest
	}
	if typical[0] != typical[1] || index[0] != index[1] {
		t.Errorf("images %s and indexes %s differ", typical, index)
	}
}

func TestRoundTrips(t *testing.T) {
	at := func(begin, end int) span {
		return span{time.UnixMilli(int64(begin)), time.UnixMilli(int64(end))}
	}
	for _, test := range []struct {
		requests []span
		want     int
	}{
		{nil, 0},
		{[]span{at(0, 20), at(20, 40)}, 2},
		{[]span{at(0, 20), at(25, 45), at(26, 46), at(50, 70), at(47, 68)}, 3},
		{[]span{at(0, 20), at(1, 21), at(2, 22)}, 1},
	} {
		if n := roundTrips(test.requests); n != test.want {
			t.Errorf("%v: %d round trips, want %d", test.requests, n, test.want)
		}
	}
}

func TestParseTask(t *testing.T) {
	const line = "42 (a (b) c) S 7 42 42 0 -1 4194560 1 2 3 4 150 50 9 9 20 0 5 0 1000 123456 300 18446744073709551615 1 1"
	found, err := parseTask(line)
	if err != nil || found.parent != 7 || found.cpu != 2 || found.rss != 300*4096 {
		t.Errorf("%+v, %v", found, err)
	}
	if _, err := parseTask("42 (a) S 7"); err == nil {
		t.Error("accepts half a line")
	}
}

// TestBelow adds up a process, its child and its grandchild.
func TestBelow(t *testing.T) {
	all := map[int]task{1: {0, 100, 100}, 2: {1, 1, 1}, 3: {2, 2, 2}, 4: {3, 4, 4}, 5: {1, 100, 100}}
	if sum := below(all, 2); sum.cpu != 7 || sum.rss != 7 {
		t.Errorf("%+v", sum)
	}
}

func TestVerdict(t *testing.T) {
	values := map[int]float64{1: 2, 2: 4, 4: 9}
	reference := map[int]float64{1: 2, 2: 2, 3: 1}
	if got := spread(within(values, reference, false)); got != "1.5 (1–2)" {
		t.Errorf("ratios %s", got)
	}
	if got := spread(within(values, reference, true)); got != "1 (0–2)" {
		t.Errorf("differences %s", got)
	}
	for want, g := range map[string]goal{
		"1.5, met":       {must: 1.5, ambitious: 1},
		"1.5, ambitious": {must: 1, ambitious: 1.4, least: true},
		"1.5, MISSED":    {must: 1.6, ambitious: 2, least: true},
	} {
		if got := g.verdict(within(values, reference, false)); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := (goal{must: 1}).verdict(nil); got != "unknown" {
		t.Errorf("without values %q", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.0421: "0.042", 0.5: "0.5", 1.234: "1.23", 17.25: "17.2", 1234.5: "1234", -0.25: "-0.25"} {
		if got := number(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}
