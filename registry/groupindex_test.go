package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
)

// manyImages are records of images in memory, with counts of reads.
type manyImages struct {
	Grants
	indexes      map[string][]byte // by name
	names        []string
	modified     time.Time
	mu           sync.Mutex // guards reads, which come at the same time
	reads, lists int
	unstored     string // a record that is listed, but not stored yet
	failAfter    int    // reads; 0: never
}

const digestsOfImage = 5

func (m *manyImages) root(i int) digest.Digest { return digest.FromString(fmt.Sprint("root", i)) }

func (m *manyImages) blob(i, n int) digest.Digest { return digest.FromString(fmt.Sprint(i, "blob", n)) }

// add writes the record of another image.
func (m *manyImages) add() {
	i := len(m.names)
	var data []byte
	for n := range digestsOfImage {
		prefix, _ := prefixOf(m.blob(i, n))
		data = binary.BigEndian.AppendUint64(data, prefix)
	}
	name := "sha256-" + m.root(i).Encoded()
	m.names = append(m.names, name)
	m.indexes["group/images/"+name] = data
	m.modified = m.modified.Add(time.Second)
}

func (m *manyImages) Index(_ context.Context, name string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.reads++; m.failAfter > 0 && m.reads > m.failAfter {
		return nil, errors.New("the store is gone")
	}
	if name == m.unstored {
		return nil, fmt.Errorf("read grant: %w", blobstore.ErrNotFound)
	}
	return m.indexes[name], nil
}

func (m *manyImages) Get(context.Context, string) (*auth.Grant, time.Time, error) {
	return nil, time.Time{}, errors.New("no grant is needed")
}

func (m *manyImages) Records(_ context.Context, _ string, since time.Time) ([]string, time.Time, error) {
	if m.modified.Equal(since) {
		return nil, since, nil
	}
	m.lists++
	return append([]string(nil), m.names...), m.modified, nil
}

func newManyImages(n int) (*manyImages, *imageIndex) {
	m := &manyImages{indexes: map[string][]byte{}, modified: time.Now()}
	for range n {
		m.add()
	}
	x := newImageIndex(m, m)
	x.settled = -time.Hour // its times are exact
	return m, x
}

var manyGroup = namedRepository{group: "group"}

func (m *manyImages) find(t *testing.T, x *imageIndex, d digest.Digest, want ...digest.Digest) {
	t.Helper()
	roots, err := x.find(t.Context(), manyGroup, d)
	if err != nil || fmt.Sprint(roots) != fmt.Sprint(want) {
		t.Fatalf("%s: found %v, %v; want %v", d, roots, err, want)
	}
}

// TestIndexOfManyImages: a group of very many images is read once. After that unknown
// digests read nothing, and a new image costs its own record.
func TestIndexOfManyImages(t *testing.T) {
	const images = 20_000
	m, x := newManyImages(images)
	m.find(t, x, digest.FromString("unknown"))
	if m.reads != images || m.lists != 1 {
		t.Errorf("%d records were read, and %d listings", m.reads, m.lists)
	}
	for i := range 100 {
		m.find(t, x, digest.FromString(fmt.Sprint("unknown", i)))
	}
	for i := 0; i < images; i += 97 {
		m.find(t, x, m.root(i), m.root(i))
		m.find(t, x, m.blob(i, i%digestsOfImage), m.root(i))
	}
	if m.reads != images || m.lists != 1 {
		t.Errorf("with all known, %d records were read, and %d listings", m.reads, m.lists)
	}
	m.add()
	m.find(t, x, m.blob(images, 0), m.root(images))
	if m.reads != images+1 {
		t.Errorf("%d records were read for a new one", m.reads-images)
	}
	if x.cost > images*(32+16*(digestsOfImage+1))+1<<10 {
		t.Errorf("the index costs %d bytes", x.cost)
	}
}

// TestIndexGoesOn: what was read before the store failed is not read again.
func TestIndexGoesOn(t *testing.T) {
	m, x := newManyImages(1000)
	x.chunk = 100
	m.failAfter = 550
	if _, err := x.find(t.Context(), manyGroup, digest.FromString("unknown")); err == nil {
		t.Error("no error from a store that fails")
	}
	m.failAfter = 0
	for i := range 1000 {
		m.find(t, x, m.blob(i, 1), m.root(i))
	}
	if m.reads > 1000+readsAtATime { // all that were under way may have failed
		t.Errorf("%d reads of 1000 records and one failure", m.reads)
	}
}

// TestListedBeforeStored: a record that another server has listed and not stored yet is
// found as soon as it is there, although the list is the same then.
func TestListedBeforeStored(t *testing.T) {
	for _, tooLarge := range []bool{false, true} {
		m, x := newManyImages(20)
		if tooLarge {
			x.maxOne = 1
		}
		m.unstored = "group/images/" + m.names[7]
		for range 2 {
			m.find(t, x, m.blob(7, 0))
			m.find(t, x, m.blob(3, 0), m.root(3))
		}
		m.unstored = ""
		m.find(t, x, m.blob(7, 0), m.root(7))
	}
}

// TestIndexTooLarge: an index that is too large to be kept is read for each digest, but
// once for each that is unknown, until another record is written.
func TestIndexTooLarge(t *testing.T) {
	m, x := newManyImages(300)
	x.maxOne, x.chunk = 4<<10, 50
	for i := range 300 {
		m.find(t, x, m.root(i), m.root(i))
		m.find(t, x, m.blob(i, 3), m.root(i))
	}
	unknown := m.blob(300, 3)
	m.find(t, x, unknown)
	m.reads, m.lists = 0, 0
	for range 10 {
		m.find(t, x, unknown)
	}
	if m.reads != 0 || m.lists != 0 || x.cost > x.maxOne {
		t.Errorf("an unknown digest again: %d reads, %d listings; the index costs %d bytes", m.reads, m.lists, x.cost)
	}
	m.add()
	m.find(t, x, unknown, m.root(300))
}
