package upstream

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/opencontainers/go-digest"
)

// content is the content of a blob.
type content interface {
	io.ReaderAt
	Size() int64
}

// noise is a blob of any size whose bytes are computed when they are read. Each
// page begins with its number, so that all pages differ.
type noise struct {
	page []byte
	size int64
}

// The size of a page is no multiple of any buffer's.
const pageSize = 65521

func newNoise(seed byte, size int64) noise {
	n := noise{make([]byte, pageSize), size}
	rand.NewChaCha8([32]byte{seed}).Read(n.page)
	return n
}

func (n noise) Size() int64 { return n.size }

func (n noise) ReadAt(p []byte, offset int64) (total int, err error) {
	for total < len(p) && offset < n.size {
		number, at := offset/pageSize, offset%pageSize
		part := p[total:min(int64(len(p)), int64(total)+min(pageSize-at, n.size-offset))]
		copy(part, n.page[at:])
		if at < 8 {
			var head [8]byte
			binary.BigEndian.PutUint64(head[:], uint64(number))
			copy(part, head[at:])
		}
		total += len(part)
		offset += int64(len(part))
	}
	if total < len(p) {
		err = io.EOF
	}
	return total, err
}

// flipped is content with one wrong byte.
type flipped struct {
	content
	at int64
}

func (f flipped) ReadAt(p []byte, offset int64) (int, error) {
	n, err := f.content.ReadAt(p, offset)
	if i := f.at - offset; i >= 0 && i < int64(n) {
		p[i] ^= 1
	}
	return n, err
}

// add has the registry serve an image under a name and tag.
func (f *Faulty) add(name, tag string, i image) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.objects[name+":"+tag], f.objects[name+"@"+i.digest().String()] = i, i
}

// AddNoise adds name:1 with one layer of the size, which is no archive, and
// returns the layer's digest. It hashes the whole layer, which takes time.
func (f *Faulty) AddNoise(t testing.TB, name string, size int64) digest.Digest {
	t.Helper()
	c := newNoise(1, size)
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(c, 0, size)); err != nil {
		t.Fatal(err)
	}
	d := digest.NewDigest(digest.SHA256, h)
	config := encode(map[string]any{
		"architecture": "amd64", "os": "linux", "rootfs": v1.RootFS{Type: "layers", DiffIDs: []v1.Hash{hash(d)}},
	})
	manifest := v1.Manifest{
		SchemaVersion: 2, MediaType: oci.manifest, Config: describe(oci.config, config),
		Layers: []v1.Descriptor{{MediaType: oci.gzip, Size: size, Digest: hash(d)}},
	}
	f.mu.Lock()
	f.blobs[d], f.blobs[digest.FromBytes(config)] = c, bytes.NewReader(config)
	f.mu.Unlock()
	f.add(name, "1", image{mediaType: oci.manifest, manifest: encode(manifest)})
	return d
}

// bottom is the bottom layer of all images, compressed once.
var bottom = sync.OnceValues(func() (layer, error) {
	box, err := findBusybox()
	if err != nil {
		return layer{}, err
	}
	return gzipLayer(box.rootfs("amd64", "bin"))
})

// AddImage adds name:1, an image of busybox and layers with a file of random
// bytes each, /data/0 and so on, of the sizes given. The same seed gives the
// same bytes. It returns the digests of those layers.
func (f *Faulty) AddImage(t testing.TB, name string, seed byte, sizes ...int) []digest.Digest {
	t.Helper()
	return f.AddImages(t, []string{name}, seed, sizes...)
}

// AddImages adds one image, as AddImage does, under several names.
func (f *Faulty) AddImages(t testing.TB, names []string, seed byte, sizes ...int) []digest.Digest {
	t.Helper()
	base, err := bottom()
	if err != nil {
		t.Fatal(err)
	}
	layers := []layer{base}
	var digests []digest.Digest
	random := rand.NewChaCha8([32]byte{seed})
	for n, size := range sizes {
		data := make([]byte, size)
		_, _ = random.Read(data) // never fails
		l, err := gzipLayer([]entry{dir("data", 0o755), file(fmt.Sprintf("data/%d", n), 0o644, data)})
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, l)
		digests = append(digests, digest.FromBytes(l.blob))
	}
	shell := v1.Config{Cmd: []string{"sh"}, Env: []string{"PATH=/bin"}}
	i := docker.image("amd64", shell, layers...)
	f.mu.Lock()
	for _, blob := range i.blobs {
		r, err := blob.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		f.blobs[digest.FromBytes(data)] = bytes.NewReader(data)
	}
	f.mu.Unlock()
	for _, name := range names {
		f.add(name, "1", i)
	}
	return digests
}
