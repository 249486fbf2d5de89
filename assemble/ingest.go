package assemble

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/upstream"
)

// Records keeps small named records. Absent ones are fs.ErrNotExist.
type Records interface {
	Record(ctx context.Context, name string) ([]byte, error)
	PutRecord(ctx context.Context, name string, data []byte) error
}

// Expected is what a request says about a layer. Zero members are not checked.
type Expected struct {
	Digest digest.Digest // of the archive as given
	Size   int64         // of the archive as given
	DiffID digest.Digest // of the uncompressed tar
	// Packed is no expectation: it is how many bytes the archive took on its way here
	// if it was packed once more, which bounds what it may unpack to.
	Packed int64
	// devices is no expectation either: the layer is an image's, and may have devices and
	// pipes as a base image may.
	devices bool
}

// Layers takes layers into the store: it checks them, whichever way they come,
// and stores nothing that fails. It is safe for concurrent use.
type Layers struct {
	// Room returns an error while the disk of the temporary files has no room to
	// spare; nil: it always has. Layers of this machine are not asked for room, because
	// recipes name them, and a server with a full disk must start. Set before the first
	// use.
	Room func() error

	store    blobstore.Store
	records  Records
	upstream *upstream.Client
	tempDir  string
	maxSize  int64
	fetches  flight.Group[augment.Layer]
	rights   *rights

	// ofRecipes has the digests of layers that the configuration named, by record. A
	// restart without the network needs the records.
	ofRecipes sync.Map
}

// fetchTimeout bounds one remote layer, from the first byte to the store.
const fetchTimeout = 30 * time.Minute

// maxVia bounds Layer.Via in bytes, because a grant keeps it and its host chooses it.
const maxVia = 8 << 10

// NewLayers returns Layers that fetch at most maxSize bytes and keep unfinished
// downloads in tempDir.
func NewLayers(store blobstore.Store, records Records, client *upstream.Client, tempDir string, maxSize int64) *Layers {
	return &Layers{store: store, records: records, upstream: client, tempDir: tempDir, maxSize: maxSize, rights: newRights()}
}

// Stage returns a store for the layers of one request. It must be closed.
func (l *Layers) Stage() *blobstore.Stage {
	s := blobstore.NewStage(l.tempDir)
	s.Room = l.Room
	return s
}

// smallLayer is the largest layer that is checked in memory. Most scripts fit.
const smallLayer = 32 << 10

// Inline takes a layer that came with the request into staged, which Resolve
// empties into the store once the whole request has turned out to be good. The
// caller of Inline bounds r.
func (l *Layers) Inline(ctx context.Context, staged blobstore.Store, r io.Reader, want Expected) (augment.Layer, error) {
	small := bytes.NewBuffer(make([]byte, 0, bytes.MinRead))
	n, err := io.CopyN(small, r, smallLayer)
	if errors.Is(err, io.EOF) {
		return keep(ctx, staged, bytes.NewReader(small.Bytes()), want)
	}
	if err != nil {
		return augment.Layer{}, fmt.Errorf("read layer: %w", err)
	}
	spool := blobstore.NewStage(l.tempDir)
	if s, ok := staged.(*blobstore.Stage); ok { // a recipe's layers are let in without room
		spool.Room = s.Room
	}
	defer spool.Close() // what it cannot remove, Sweep removes
	large, err := spool.Spool(ctx, io.MultiReader(bytes.NewReader(small.Bytes()[:n]), r))
	if err != nil {
		return augment.Layer{}, err
	}
	return keep(ctx, staged, large, want)
}

// Remote takes the layer at an http or https URL. A URL that was verified once
// to hold a digest is not fetched again for it, even when the origin is gone.
// The URL counts, not the digest alone: knowing a digest is no permission to use a
// layer that another client brought.
func (l *Layers) Remote(ctx context.Context, url string, want Expected) (augment.Layer, error) {
	if err := l.upstream.CheckURL(ctx, url); err != nil {
		return augment.Layer{}, fmt.Errorf("fetch layer: %w", err)
	}
	if want.Digest == "" {
		return l.fetch(ctx, url, want)
	}
	return l.once(ctx, layerRecord(url, want.Digest), want, nil, func(ctx context.Context) (augment.Layer, error) {
		return l.fetch(ctx, url, want)
	})
}

// once returns the layer of a record, or has it fetched, by one request for
// any number of callers, and makes the record. The fetch ends soon after the last
// caller has left. may tells whether the caller may have the layer of a record; nil: the
// name of the record says enough.
func (l *Layers) once(ctx context.Context, name string, want Expected, may func(context.Context) error, fetch func(context.Context) (augment.Layer, error)) (layer augment.Layer, err error) {
	defer func() {
		if _, asCaller := upstream.Identity(ctx); err == nil && !asCaller {
			l.ofRecipes.Store(name, layer.Digest)
		}
	}()
	layer, err = l.known(ctx, name, want)
	if err == nil && may != nil {
		err = may(ctx)
	}
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return layer, err
	}
	// The identity is part of the key, because the policy judges redirects for the
	// identity that fetches.
	identity, asCaller := upstream.Identity(ctx)
	key := fmt.Sprintf("%q %q %d %q %d %q %t", name, want.Digest, want.Size, want.DiffID, want.Packed, identity, asCaller)
	return l.fetches.Do(ctx, key, fetchTimeout, func(ctx context.Context) (augment.Layer, error) {
		layer, err := fetch(ctx)
		if err != nil {
			return augment.Layer{}, err
		}
		data, err := encodeLayer(layer)
		if err == nil {
			err = l.records.PutRecord(ctx, name, data)
		}
		return layer, err
	})
}

func layerRecord(url string, d digest.Digest) string {
	sum := sha256.Sum256([]byte(d.String() + " " + url))
	return "layers/" + hex.EncodeToString(sum[:])
}

// known returns a layer that was fetched before, if it is still in the store. A
// damaged record or layer is as good as none, and so is a record of an older version,
// which does not say where redirects led. A layer that came through a redirect
// to where the caller may not read is as good as none, too: the caller's own fetch
// finds out where the URL leads now, and is refused there.
func (l *Layers) known(ctx context.Context, name string, want Expected) (augment.Layer, error) {
	data, err := l.records.Record(ctx, name)
	if err != nil {
		return augment.Layer{}, err
	}
	layer, redirects, err := decodeLayer(data)
	if err != nil {
		return augment.Layer{}, fmt.Errorf("read record %s: %w", name, err)
	}
	// The administrator's own URLs may lead anywhere, and blobs of repositories are
	// recorded for one identity.
	if _, asCaller := upstream.Identity(ctx); asCaller && !redirects && !blobLocation.MatchString(layer.Location) {
		return augment.Layer{}, fmt.Errorf("read record %s: it does not say where redirects led, so %w", name, fs.ErrNotExist)
	}
	for _, url := range layer.Via {
		if err := l.upstream.CheckURL(ctx, url); err != nil {
			return augment.Layer{}, fmt.Errorf("read record %s: %w, so %w", name, err, fs.ErrNotExist)
		}
	}
	if want.DiffID != "" && want.DiffID != layer.DiffID {
		return augment.Layer{}, mismatch("tarDigest", want.DiffID, layer.DiffID)
	}
	if err := l.store.Verify(ctx, layer.Digest); err != nil {
		return augment.Layer{}, err
	}
	if want.Size != 0 && want.Digest == layer.Digest && want.Size != layer.Size {
		return augment.Layer{}, mismatch("gzipSize", want.Size, layer.Size)
	}
	return layer, nil
}

func (l *Layers) fetch(ctx context.Context, url string, want Expected) (augment.Layer, error) {
	done, err := budget.From(ctx).Hold(budget.Fetches, 1)
	if err != nil {
		return augment.Layer{}, err
	}
	defer done()
	body, size, err := l.upstream.Fetch(ctx, url)
	if err != nil {
		return augment.Layer{}, fmt.Errorf("fetch layer: %w", err)
	}
	defer body.Close()
	if size > l.maxSize {
		return augment.Layer{}, tooLarge(upstream.RedactURL(url), l.maxSize)
	}
	if len(strings.Join(body.Via, "")) > maxVia {
		return augment.Layer{}, augment.Errorf("layer %s: its redirects have URLs of more than %d bytes together", upstream.RedactURL(url), maxVia)
	}
	layer, err := l.spool(ctx, body, upstream.RedactURL(url), want, l.Room)
	layer.Location = upstream.RedactURL(url)
	layer.Via = body.Via
	layer.Platform = platformOf(url)
	return layer, err
}

// Local takes a layer from this machine. name is for messages.
func (l *Layers) Local(ctx context.Context, r io.Reader, name string, want Expected) (augment.Layer, error) {
	return l.spool(ctx, r, name, want, nil)
}

// spool writes a layer that arrives to a file, checks it and stores it. name
// is for messages. room, if it is not nil, ends it while the disk is full.
func (l *Layers) spool(ctx context.Context, body io.Reader, name string, want Expected, room func() error) (augment.Layer, error) {
	// It keeps its name, because NFS gives open files without a name another one,
	// which is not swept after a crash.
	f, err := durable.CreateTemp(l.tempDir)
	if err != nil {
		return augment.Layer{}, fmt.Errorf("keep layer: %w", durable.AsFull(err))
	}
	defer os.Remove(f.Name())
	defer f.Close()
	var w io.Writer = f
	if room != nil {
		w = durable.NewRoomWriter(f, room)
	}
	n, err := io.Copy(w, io.LimitReader(body, l.maxSize+1))
	if err != nil {
		return augment.Layer{}, fmt.Errorf("read layer: %w", durable.AsFull(err))
	}
	if n > l.maxSize {
		return augment.Layer{}, tooLarge(name, l.maxSize)
	}
	return keep(ctx, l.store, f, want)
}

func tooLarge(name string, limit int64) error {
	return augment.Errorf("layer %s is larger than the limit of %d bytes (layers.max_size)", name, limit)
}

func keep(ctx context.Context, store blobstore.Store, r io.ReadSeeker, want Expected) (augment.Layer, error) {
	size, err := r.Seek(0, io.SeekEnd)
	if err == nil {
		_, err = r.Seek(0, io.SeekStart)
	}
	if err != nil {
		return augment.Layer{}, fmt.Errorf("read layer: %w", err)
	}
	limits := augment.DefaultLimits
	limits.Packed, limits.Devices = cmp.Or(want.Packed, size), want.devices
	found, err := augment.Inspect(ctx, r, limits)
	// Report "not an archive" before a digest mismatch: the usual cause is a wrong URL,
	// not damaged bytes.
	if err != nil {
		return augment.Layer{}, err
	}
	switch {
	case want.Digest != "" && want.Digest != found.Digest:
		return augment.Layer{}, mismatch("gzipDigest", want.Digest, found.Digest)
	case want.Size != 0 && want.Size != found.Size:
		return augment.Layer{}, mismatch("gzipSize", want.Size, found.Size)
	case want.DiffID != "" && want.DiffID != found.DiffID:
		return augment.Layer{}, mismatch("tarDigest", want.DiffID, found.DiffID)
	}
	return augment.Keep(ctx, store, r, found)
}

func mismatch(member string, want, found any) error {
	return augment.Errorf("layer %s: expected %v, found %v", member, want, found)
}

// fusionName is how Fusion's layers name their architecture; clients send the
// layers of all architectures and leave the choice to the server.
var fusionName = regexp.MustCompile(`/fusion-(\w+)\.tar\.gz$`)

func platformOf(url string) string {
	m := fusionName.FindStringSubmatch(url)
	if m == nil {
		return ""
	}
	p, err := augment.ParsePlatform(m[1])
	if err != nil {
		return ""
	}
	return augment.FormatPlatform(p)
}
