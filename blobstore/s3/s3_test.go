package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// TestStore runs the tests of all stores on a real server.
func TestStore(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	storetest.Run(t, func(t *testing.T) blobstore.Store { return g.server(t, g.newBucket(t)) })
	storetest.RunRecords(t, func(t *testing.T) storetest.Records {
		s, err := blobstore.OpenBucket(t.Context(), blobstore.BucketOptions{Objects: g.open(t, g.newBucket(t)), Staging: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
	storetest.RunPacks(t, func(t *testing.T) storetest.Server {
		name := g.newBucket(t)
		return func(t *testing.T) storetest.Packs { return g.server(t, name) }
	})
}

func putObject(t *testing.T, b *Bucket, key, text string, c blobstore.Condition) string {
	t.Helper()
	version, err := b.Put(t.Context(), key, strings.NewReader(text), int64(len(text)), c)
	if err != nil {
		t.Fatal(err)
	}
	return version
}

func getObject(b *Bucket, ctx context.Context, key string, s blobstore.Selection) (string, blobstore.Object, error) {
	o, err := b.Get(ctx, key, s)
	if err != nil {
		return "", o, err
	}
	defer o.Body.Close()
	data, err := io.ReadAll(o.Body)
	return string(data), o, err
}

func TestConditions(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	b := g.open(t, g.newBucket(t))
	if _, err := b.Put(t.Context(), "a", strings.NewReader("x"), 1, blobstore.Condition{Version: `"0123456789abcdef0123456789abcdef"`}); !errors.Is(err, blobstore.ErrChanged) {
		t.Errorf("in place of a version of an absent object: %v", err)
	}
	first := putObject(t, b, "a", "first", blobstore.Condition{Absent: true})
	if _, err := b.Put(t.Context(), "a", strings.NewReader("other"), 5, blobstore.Condition{Absent: true}); !errors.Is(err, blobstore.ErrChanged) {
		t.Errorf("a second object: %v", err)
	}
	second := putObject(t, b, "a", "second", blobstore.Condition{Version: first})
	if _, err := b.Put(t.Context(), "a", strings.NewReader("third"), 5, blobstore.Condition{Version: first}); !errors.Is(err, blobstore.ErrChanged) {
		t.Errorf("in place of the first version: %v", err)
	}
	if text, o, err := getObject(b, t.Context(), "a", blobstore.Selection{Not: first}); text != "second" || o.Version != second || err != nil {
		t.Errorf("%q, %v", text, err)
	}
	if _, _, err := getObject(b, t.Context(), "a", blobstore.Selection{Not: second}); !errors.Is(err, blobstore.ErrUnchanged) {
		t.Errorf("the version that is not wanted: %v", err)
	}
	if _, _, err := getObject(b, t.Context(), "a", blobstore.Selection{Only: first}); !errors.Is(err, blobstore.ErrChanged) {
		t.Errorf("the first version: %v", err)
	}
	if _, _, err := getObject(b, t.Context(), "absent", blobstore.Selection{}); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("an absent object: %v", err)
	}
}

func TestSelections(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	b := g.open(t, g.newBucket(t))
	putObject(t, b, "a", "0123456789", blobstore.Condition{})
	putObject(t, b, "empty", "", blobstore.Condition{})
	for _, tt := range []struct {
		key  string
		s    blobstore.Selection
		want string
		size int64
	}{
		{"a", blobstore.Selection{}, "0123456789", 10},
		{"a", blobstore.Selection{Length: 4}, "0123", 10},
		{"a", blobstore.Selection{Length: 400}, "0123456789", 10},
		{"a", blobstore.Selection{Offset: 7}, "789", 10},
		{"a", blobstore.Selection{Offset: 7, Length: 1}, "7", 10},
		{"empty", blobstore.Selection{}, "", 0},
		{"empty", blobstore.Selection{Length: 4}, "", 0},
	} {
		if text, o, err := getObject(b, t.Context(), tt.key, tt.s); text != tt.want || o.Size != tt.size || err != nil {
			t.Errorf("%s %+v: %q of %d bytes, %v", tt.key, tt.s, text, o.Size, err)
		}
		if _, o, err := getObject(b, t.Context(), tt.key, tt.s); err != nil || o.Version == "" || time.Since(o.Modified).Abs() > time.Minute {
			t.Errorf("%s: version %q of %s, %v", tt.key, o.Version, o.Modified, err)
		}
	}
}

// TestParts uploads an object in parts, which appears when all are there.
func TestParts(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	b := g.open(t, g.newBucket(t))
	b.partSize = 5 << 20
	want := storetest.Bytes(12<<20, "parts")
	for range 2 {
		if _, err := b.Put(t.Context(), "large", bytes.NewReader(want), int64(len(want)), blobstore.Condition{}); err != nil {
			t.Fatal(err)
		}
		if text, o, err := getObject(b, t.Context(), "large", blobstore.Selection{}); text != string(want) || o.Size != int64(len(want)) || err != nil {
			t.Errorf("%d of %d bytes, %v", len(text), o.Size, err)
		}
	}
	if _, err := b.Put(t.Context(), "large", bytes.NewReader(want), int64(len(want)), blobstore.Condition{Absent: true}); !errors.Is(err, blobstore.ErrChanged) {
		t.Errorf("a second object: %v", err)
	}
	short := bytes.NewReader(want[:6<<20])
	if _, err := b.Put(t.Context(), "short", short, int64(len(want)), blobstore.Condition{}); err == nil {
		t.Error("a file that ends early is uploaded")
	}
	if _, _, err := getObject(b, t.Context(), "short", blobstore.Selection{}); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("part of an object: %v", err)
	}
	if version, err := b.Copy(t.Context(), "large", "copy of it"); err != nil || version == "" {
		t.Errorf("copy: %q, %v", version, err)
	}
	if text, _, err := getObject(b, t.Context(), "copy of it", blobstore.Selection{}); text != string(want) || err != nil {
		t.Errorf("copy: %d bytes, %v", len(text), err)
	}
	if _, err := b.Copy(t.Context(), "absent", "x"); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("copy of an absent object: %v", err)
	}
}

func TestListAndDelete(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	b := g.open(t, g.newBucket(t))
	for _, key := range []string{"until/2026-01-01/a", "until/2026-01-01/b/c", "until/2026-01-02/a", "other/a"} {
		putObject(t, b, key, key, blobstore.Condition{})
	}
	list := func(prefix string, dirs bool) (all []string) {
		err := b.List(t.Context(), prefix, dirs, func(keys []string) error { all = append(all, keys...); return nil })
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	if got := strings.Join(list("until/", true), " "); got != "until/2026-01-01/ until/2026-01-02/" {
		t.Errorf("directories %q", got)
	}
	if got := strings.Join(list("until/2026-01-01/", false), " "); got != "until/2026-01-01/a until/2026-01-01/b/c" {
		t.Errorf("keys %q", got)
	}
	for range 2 {
		if err := b.Delete(t.Context(), "until/2026-01-01/a"); err != nil {
			t.Error(err)
		}
	}
	if got := strings.Join(list("until/2026-01-01/", false), " "); got != "until/2026-01-01/b/c" {
		t.Errorf("keys %q", got)
	}
}

// TestURL: a client without credentials gets the object, for a time.
func TestURL(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	b := g.open(t, g.newBucket(t))
	putObject(t, b, "a/b", "hello", blobstore.Condition{})
	url, err := b.URL(t.Context(), "a/b", time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		url    string
		status int
	}{{url, http.StatusOK}, {url[:strings.IndexByte(url, '?')], http.StatusForbidden}} {
		resp, err := http.Get(tt.url)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if resp.StatusCode != tt.status || tt.status == http.StatusOK && string(body) != "hello" {
			t.Errorf("%s: %q", resp.Status, body)
		}
	}
}

// TestErrors: an error says which operation of which bucket failed and what to do, and
// has no key in it.
func TestErrors(t *testing.T) {
	g, ok := sharedGateway(t)
	if !ok {
		return
	}
	name := g.newBucket(t)
	for what, tt := range map[string]struct {
		change func(*Options)
		want   []string
	}{
		"no bucket":    {func(o *Options) { o.Name = "absent-bucket" }, []string{"s3 bucket absent-bucket: put format", "make the bucket"}},
		"wrong key":    {func(o *Options) { o.AccessKeyID = "AKIDOTHER" }, []string{"s3 bucket " + name + ": put format", "the keys"}},
		"wrong secret": {func(o *Options) { o.Secret = func() (string, error) { return testSecret + "2", nil } }, []string{"keys that this server uses are wrong"}},
		"no server":    {func(o *Options) { o.Endpoint = "http://127.0.0.1:1" }, []string{"put format", "see whether http://127.0.0.1:1 is reached"}},
	} {
		o := g.options(name)
		tt.change(&o)
		b, err := Open(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		_, err = b.Put(t.Context(), "format", strings.NewReader("x"), 1, blobstore.Condition{})
		if err == nil || errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
			continue
		}
		for _, part := range tt.want {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %q lacks %q", what, err, part)
			}
		}
		if strings.Contains(err.Error(), testSecret) || strings.Contains(err.Error(), "Signature=") || len(err.Error()) > 600 {
			t.Errorf("%s: error tells a secret or too much: %s", what, err)
		}
		if _, _, err := getObject(b, t.Context(), "x", blobstore.Selection{}); err == nil || errors.Is(err, blobstore.ErrNotFound) {
			t.Errorf("%s: get: %v", what, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := getObject(g.open(t, name), ctx, "x", blobstore.Selection{}); !errors.Is(err, context.Canceled) {
		t.Errorf("ended context: %v", err)
	}
}
