package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/recipes"
)

// TestSlowStorage: a storage that takes longer than a look may take makes no caller wait
// longer, and is looked at once at a time.
func TestSlowStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks, most, now atomic.Int32
		var takes atomic.Int64
		takes.Store(int64(7 * time.Second)) // 5 s and a bit for a write, and as much for the other calls
		s := storageProbe{probe: func() error {
			looks.Add(1)
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			time.Sleep(time.Duration(takes.Load()))
			return nil
		}}
		var longest time.Duration
		var mu sync.Mutex
		var callers sync.WaitGroup
		for range 60 { // a minute of probes, each second three
			for range 3 {
				callers.Go(func() {
					begin := time.Now()
					err := s.check(t.Context())
					mu.Lock()
					defer mu.Unlock()
					longest = max(longest, time.Since(begin))
					if err == nil || !strings.Contains(err.Error(), "does not answer within 5s") {
						t.Errorf("after %s: %v", time.Since(begin), err)
					}
				})
			}
			time.Sleep(time.Second)
		}
		callers.Wait()
		if longest > readyTimeout || most.Load() != 1 || looks.Load() > 9 {
			t.Errorf("a caller waited %s; %d looks, %d at a time", longest, looks.Load(), most.Load())
		}
		takes.Store(int64(time.Second)) // it recovers
		time.Sleep(10 * time.Second)
		if err := s.check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

// A storage that never answers costs one look, whatever is asked.
func TestHungStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := make(chan struct{})
		var looks atomic.Int32
		s := storageProbe{probe: func() error { looks.Add(1); <-hang; return nil }}
		for i := range 100 {
			begin := time.Now()
			if err := s.check(t.Context()); !errors.Is(err, errSlowStorage) {
				t.Fatal(err)
			}
			if waited := time.Since(begin); i > 0 && waited > 0 {
				t.Fatalf("call %d waited %s for a look that hangs", i, waited)
			}
			time.Sleep(time.Second)
		}
		close(hang)
		if looks.Load() != 1 {
			t.Errorf("%d looks", looks.Load())
		}
	})
}

// TestReadiness: what is wrong is told, the worst first.
func TestReadiness(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	writePair(t, cert, key, "name", time.Now())
	pair, err := newCertificate(cert, key, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	book := new(recipes.Book)
	book.Await([]string{"tools", "fusion"})
	var broken error
	r := &readiness{book: book, certificate: pair, storage: storageProbe{probe: func() error { return broken }}}
	check := func(problem string, parts ...string) {
		t.Helper()
		r.storage.checked = time.Time{}
		problems, err := r.check(t.Context())
		if (err == nil) != (problem == "") || err != nil && !strings.Contains(err.Error(), problem) {
			t.Errorf("not ready for %v, want %q", err, problem)
		}
		if len(problems) != len(parts) {
			t.Errorf("problems %q, want %q", problems, parts)
		}
		for i := range min(len(problems), len(parts)) {
			if !strings.Contains(problems[i], parts[i]) {
				t.Errorf("problems %q, want %q", problems, parts)
			}
		}
	}
	check("reading recipes: fusion, tools")
	r.started.Store(true)
	check("", "recipe fusion has not been loaded", "recipe tools has not been loaded")
	if failed := (recipes.Loader{}).LoadEach(t.Context(), book, map[string]recipes.Definition{"tools": {Env: []string{"A=1"}}}); len(failed) > 0 {
		t.Fatal(failed)
	}
	check("", "recipe fusion")
	broken = errors.New("the storage directory cannot be written")
	check("cannot be written")
	pair.current.Leaf.NotAfter = time.Now().Add(-time.Hour)
	check("the certificate has expired")
	r.draining.Store(true)
	check("shutting down")
}

func get(t *testing.T, url string) (status int, body string, h http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	return send(t, req)
}

func send(t *testing.T, req *http.Request) (status int, body string, h http.Header) {
	t.Helper()
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text), resp.Header
}
