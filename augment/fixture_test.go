package augment

import (
	"archive/tar"
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/rootfs"
)

// memory is a Source and an Archives. It records the requests.
type memory struct {
	mu       sync.Mutex
	objects  map[string]Object // by digest and tag
	archives map[digest.Digest][]byte
	asked    []string
	fault    error // of what is not there; nil for any other
}

func newMemory() *memory {
	return &memory{objects: map[string]Object{}, archives: map[digest.Digest][]byte{}}
}

func (m *memory) note(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.asked = append(m.asked, fmt.Sprintf(format, args...))
}

func (m *memory) Manifest(_ context.Context, ref string) (Object, error) {
	m.note("manifest %s", ref)
	o, ok := m.objects[ref]
	if !ok {
		return o, cmp.Or(m.fault, fmt.Errorf("no manifest %s", ref))
	}
	return o, nil
}

func (m *memory) Blob(_ context.Context, d ocispec.Descriptor) (Object, error) {
	m.note("blob %s", d.Digest)
	o, ok := m.objects[d.Digest.String()]
	if !ok {
		return o, cmp.Or(m.fault, fmt.Errorf("no blob %s", d.Digest))
	}
	return o, nil
}

func (m *memory) Index(ctx context.Context, d ocispec.Descriptor) (*layerindex.Index, error) {
	m.note("layer %s", d.Digest)
	data, ok := m.archives[d.Digest]
	if !ok {
		return nil, fmt.Errorf("no layer %s", d.Digest)
	}
	return layerindex.Read(ctx, bytes.NewReader(data))
}

func (m *memory) Files(ctx context.Context, d ocispec.Descriptor, names []string) (map[string]layerindex.File, error) {
	m.note("files %s %q", d.Digest, names)
	return layerindex.Files(ctx, bytes.NewReader(m.archives[d.Digest]), names)
}

// added returns the index of a layer. A layer whose bytes do not matter to a test is
// empty.
func (m *memory) added(ctx context.Context, l Layer) (*layerindex.Index, error) {
	return layerindex.Read(ctx, strings.NewReader(cmp.Or(string(m.archives[l.Digest]), string(make([]byte, 1024)))))
}

// repackOver repacks layers over a base of these layers; without any, names stay.
func repackOver(ctx context.Context, archives Archives, layers []Layer, base ...[]file) (Layer, error) {
	p, err := placedOver(ctx, archives, layers, base...)
	if err != nil {
		return Layer{}, err
	}
	defer p.end()
	return repack(ctx, p)
}

// placedOver returns a placing after its first pass.
func placedOver(ctx context.Context, archives Archives, layers []Layer, base ...[]file) (*placing, error) {
	if len(base) == 0 {
		return placeOn(ctx, archives, nil, layers, nil), nil
	}
	stack := rootfs.NewStack()
	for _, files := range base {
		x, err := layerindex.Read(ctx, bytes.NewReader(tarOf(files...)))
		if err != nil {
			return nil, err
		}
		stack = stack.With(x)
	}
	w := &walk{Request: Request{Archives: archives}}
	var indexes []*layerindex.Index
	for _, l := range layers {
		x, err := w.addedIndex(ctx, l)
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, x)
	}
	p := placeOn(ctx, archives, stack, layers, indexes)
	_, _, err := p.learn(ctx)
	return p, err
}

func (m *memory) Open(_ context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	data, ok := m.archives[d]
	if !ok {
		return nil, fmt.Errorf("no archive %s", d)
	}
	return struct {
		io.ReadSeeker
		io.Closer
	}{bytes.NewReader(data), io.NopCloser(nil)}, nil
}

func (m *memory) Verify(ctx context.Context, d digest.Digest) error {
	f, err := m.Open(ctx, d)
	if err != nil {
		return err
	}
	if found, err := digest.FromReader(f); err != nil || found != d {
		return fmt.Errorf("verify %s: found %s, %v", d, found, err)
	}
	return nil
}

func (m *memory) Put(_ context.Context, d digest.Digest, r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	if found := digest.FromBytes(data); found != d {
		return fmt.Errorf("put %s: found %s", d, found)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.archives[d] = data
	return nil
}

// add stores a document under its digest, and under the tags.
func (m *memory) add(mediaType, text string, tags ...string) Object {
	o := NewObject(mediaType, []byte(text))
	for _, name := range append(tags, o.Digest.String()) {
		m.objects[name] = o
	}
	return o
}

// descriptor returns the JSON of an object's descriptor.
func descriptor(o Object, more ...string) string {
	text := fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d`, o.MediaType, o.Digest, len(o.Data))
	for _, m := range more {
		text += "," + m
	}
	return text + "}"
}

// image adds a one-layer OCI image whose config has the members given.
func (m *memory) image(arch, more string, tags ...string) Object {
	layer := m.layer(archive(file{name: "etc/os-release", text: arch}))
	config := m.add(ocispec.MediaTypeImageConfig, fmt.Sprintf(`{"architecture":%q,"os":"linux","rootfs":{"type":"layers","diff_ids":[%q]}%s}`, arch, layer.DiffID, more))
	return m.add(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, descriptor(config), ocispec.MediaTypeImageLayerGzip, layer.Digest, layer.Size), tags...)
}

// index adds an OCI index; entries are descriptors.
func (m *memory) index(tag string, entries ...string) Object {
	return m.add(ocispec.MediaTypeImageIndex, fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[%s]}`, ocispec.MediaTypeImageIndex, strings.Join(entries, ",")), tag)
}

func platform(arch string) string {
	return fmt.Sprintf(`"platform":{"architecture":%q,"os":"linux"}`, arch)
}

// layer stores an archive and returns what Inspect found.
func (m *memory) layer(data []byte) Layer {
	found, err := Inspect(context.Background(), bytes.NewReader(data), DefaultLimits)
	if err != nil {
		panic(err)
	}
	m.archives[found.Digest] = data
	return found.Layer
}

// file is a tar entry; a regular file unless kind says otherwise.
type file struct {
	name, text, link string
	kind             byte
	mode             int64
	pax              map[string]string
}

func tarOf(files ...file) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Linkname: f.link, Typeflag: f.kind, Mode: f.mode, Size: int64(len(f.text)), PAXRecords: f.pax}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			panic(err)
		}
		if _, err := io.WriteString(w, f.text); err != nil {
			panic(err)
		}
	}
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func gzipOf(data []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(data)
	_ = z.Close()
	return b.Bytes()
}

// archive returns a gzip-compressed tar.
func archive(files ...file) []byte { return gzipOf(tarOf(files...)) }

// unpacked lists an archive of m as name to text, "dir" or "-> target".
func (m *memory) unpacked(t *testing.T, l Layer) map[string]string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(m.archives[l.Digest]))
	if err != nil {
		t.Fatal(err)
	}
	plain, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	if digest.FromBytes(plain) != l.DiffID || int64(len(m.archives[l.Digest])) != l.Size {
		t.Errorf("layer %s does not have the diff ID and size it says", l.Digest)
	}
	files := map[string]string{}
	r := tar.NewReader(bytes.NewReader(plain))
	for {
		h, err := r.Next()
		if err == io.EOF {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is in the archive twice", h.Name)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			files[h.Name] = "dir"
		case tar.TypeSymlink:
			files[h.Name] = "-> " + h.Linkname
		case tar.TypeLink:
			files[h.Name] = "= " + h.Linkname
		default:
			files[h.Name] = string(text)
		}
	}
}
