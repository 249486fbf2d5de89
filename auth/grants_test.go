package auth

import (
	"bytes"
	"errors"
	"io/fs"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func newGrants(t testing.TB, r Records, c *clock, keys ...Key) *Grants {
	t.Helper()
	g, err := NewGrants(keys, r)
	if err != nil {
		t.Fatal(err)
	}
	g.now = c.now
	return g
}

func TestGrants(t *testing.T) {
	c := noon()
	c.advance(300 * time.Millisecond)
	records := newMemory()
	g := newGrants(t, records, c, testKey(t, 0))
	want := testGrant()
	want.Named, want.Builder = "fusion", Builder{ID: "https://proxy.example.org", Version: "1.2.3"}
	if err := g.Put(t.Context(), "named/a/1", want); err != nil {
		t.Fatal(err)
	}
	got, stored, err := g.Get(t.Context(), "named/a/1")
	if err != nil {
		t.Fatal(err)
	}
	want.Record = "named/a/1"
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("grant (-want +got):\n%s", diff)
	}
	if !stored.Equal(c.t.Truncate(time.Second)) {
		t.Errorf("stored at %s, want %s", stored, c.t)
	}
	for _, plain := range []string{"ubuntu", "fusion", "sha256"} {
		if bytes.Contains(records.values["named/a/1"], []byte(plain)) {
			t.Errorf("the record shows %q", plain)
		}
	}
	// In place of the earlier one, with its own time.
	c.advance(time.Hour)
	want.Tag = "26.04"
	if err := g.Put(t.Context(), "named/a/1", want); err != nil {
		t.Fatal(err)
	}
	if got, stored, err = g.Get(t.Context(), "named/a/1"); err != nil || got.Tag != "26.04" || !stored.Equal(c.t.Truncate(time.Second)) {
		t.Errorf("got %v of %s, %v", got, stored, err)
	}
}

// TestGrantsUnreadable: a record that cannot be opened counts as missing, because
// the grant can be made again.
func TestGrantsUnreadable(t *testing.T) {
	records := newMemory()
	g := newGrants(t, records, noon(), testKey(t, 0))
	if err := g.Put(t.Context(), "named/a/1", testGrant()); err != nil {
		t.Fatal(err)
	}
	good := records.values["named/a/1"]
	for name, data := range map[string][]byte{
		"empty":   {},
		"cut":     good[:len(good)-1],
		"changed": append(bytes.Clone(good[:len(good)-1]), good[len(good)-1]^1),
		"header":  append([]byte{good[0] ^ 1}, good[1:]...),
	} {
		records.values["named/a/1"] = data
		if _, _, err := g.Get(t.Context(), "named/a/1"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	// Moved to another name by an attacker who can write to the store.
	records.values["named/b/1"] = good
	for _, name := range []string{"named/b/1", "named/c/1"} {
		if _, _, err := g.Get(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	records.fail = errors.New("disk")
	if _, _, err := g.Get(t.Context(), "named/a/1"); !errors.Is(err, records.fail) || errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
	if err := g.Put(t.Context(), "named/a/1", testGrant()); !errors.Is(err, records.fail) {
		t.Errorf("error %v", err)
	}
}

func TestGrantsKeys(t *testing.T) {
	records := newMemory()
	old, key := testKey(t, 0), testKey(t, 100)
	if err := newGrants(t, records, noon(), old).Put(t.Context(), "named/a/1", testGrant()); err != nil {
		t.Fatal(err)
	}
	both := newGrants(t, records, noon(), key, old)
	if _, _, err := both.Get(t.Context(), "named/a/1"); err != nil {
		t.Error(err)
	}
	if err := both.Put(t.Context(), "named/a/2", testGrant()); err != nil {
		t.Fatal(err)
	}
	rotated := newGrants(t, records, noon(), key)
	if _, _, err := rotated.Get(t.Context(), "named/a/2"); err != nil {
		t.Errorf("the first key did not encrypt: %v", err)
	}
	if _, _, err := rotated.Get(t.Context(), "named/a/1"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a key that was dropped: error %v", err)
	}
	for _, keys := range [][]Key{nil, {key, {}}} {
		if _, err := NewGrants(keys, records); err == nil {
			t.Errorf("%d keys: no error", len(keys))
		}
	}
}

func TestGrantsTooLarge(t *testing.T) {
	records := newMemory()
	g := newGrants(t, records, noon(), testKey(t, 0))
	large := testGrant()
	large.Recipe.Env = []string{"A=" + strings.Repeat("x", maxGrant)}
	err := g.Put(t.Context(), "named/a/1", large)
	if _, ok := errors.AsType[*Error](err); !ok || len(records.values) != 0 {
		t.Errorf("error %v, %d records", err, len(records.values))
	}
}

// TestGrantsIndex: an index is kept, encrypted, beside the grant, and has no part in the
// grant's size.
func TestGrantsIndex(t *testing.T) {
	records := newMemory()
	g := newGrants(t, records, noon(), testKey(t, 0))
	index := bytes.Repeat([]byte("index"), maxGrant/5)
	if err := g.PutIndexed(t.Context(), "named/a/images/1", testGrant(), index); err != nil {
		t.Fatal(err)
	}
	if got, err := g.Index(t.Context(), "named/a/images/1"); err != nil || !bytes.Equal(got, index) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if grant, _, err := g.Get(t.Context(), "named/a/images/1"); err != nil || grant.Image != testGrant().Image {
		t.Errorf("%v, %v", grant, err)
	}
	if record := records.values["named/a/images/1"]; bytes.Contains(record, []byte("aW5kZXhpbmRleA")) {
		t.Error("the index can be read in the record")
	}
	if _, err := g.Index(t.Context(), "named/a/images/2"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no record: %v", err)
	}
}

// TestGrantForm: members that were added later are absent when they are empty,
// so that tokens minted before still name their grants.
func TestGrantForm(t *testing.T) {
	data, err := testGrant().encode()
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{"builder", "named", "identity"} {
		if bytes.Contains(data, []byte(member)) {
			t.Errorf("the grant has a member %s: %s", member, data)
		}
	}
}
