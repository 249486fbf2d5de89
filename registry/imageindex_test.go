package registry

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// countedReads counts how often the records of images are read, and their directory.
type countedReads struct {
	*clockedGrants
	dir            *blobstore.Dir
	indexes, lists atomic.Int64
}

func (c *countedReads) Index(ctx context.Context, name string) ([]byte, error) {
	c.indexes.Add(1)
	return c.clockedGrants.Index(ctx, name)
}

func (c *countedReads) Records(ctx context.Context, dir string, since time.Time) ([]string, time.Time, error) {
	names, modified, err := c.dir.Records(ctx, dir, since)
	if !modified.Equal(since) {
		c.lists.Add(1)
	}
	return names, modified, err
}

func (c *countedReads) use(o *Options) { o.Grants, o.Records = c, c }

const appBlobs = "tools/library/app/blobs/"

// TestUnknownDigestsReadNothing: once the directory has been read after it had
// settled, a digest that was not advertised costs a look at its time. A record that
// is written then is found at once, and only that record is read.
func TestUnknownDigestsReadNothing(t *testing.T) {
	net := newNetwork(t)
	writer := net.start()
	for i := range 5 {
		net.PushIndex(t, "library/app", fmt.Sprint(i), fmt.Sprint(i), "amd64")
		pull(t, "tools/library/app", fmt.Sprint(i), writer)
	}
	counted := &countedReads{clockedGrants: net.records, dir: net.store}
	reader := net.start(counted.use)
	reader.server.named.ledger.index.settled = 50 * time.Millisecond
	unknown := func(n int) {
		t.Helper()
		for i := range n {
			if a := reader.do("HEAD", appBlobs+digest.FromString(fmt.Sprint("unknown", i)).String()); a.status != 404 {
				t.Fatal(a.status)
			}
		}
	}
	unknown(3)
	time.Sleep(100 * time.Millisecond)
	unknown(1)
	if n := counted.indexes.Load(); n != 5 {
		t.Errorf("%d records of 5 were read", n)
	}
	counted.indexes.Store(0)
	counted.lists.Store(0)
	net.records.written()
	unknown(100)
	if counted.indexes.Load() != 0 || counted.lists.Load() != 0 || net.records.written() != 0 {
		t.Errorf("unknown digests: %d records and %d listings read", counted.indexes.Load(), counted.lists.Load())
	}
	net.PushIndex(t, "library/app", "new", "new", "amd64")
	digests := pull(t, "tools/library/app", "new", writer)
	if a := reader.do("HEAD", appBlobs+digests[len(digests)-1].String()); a.status != 200 {
		t.Errorf("a digest that another server has just advertised: status %d", a.status)
	}
	if n := counted.indexes.Load(); n != 1 {
		t.Errorf("%d records read for a new one", n)
	}
}

// TestIndexMisses: a server that is asked for unknown digests all the time knows a
// digest as soon as another one has advertised it, also where the directory's time is
// the same before and after.
func TestIndexMisses(t *testing.T) {
	net := newNetwork(t)
	writer, reader := net.start(), net.start()
	for i := range 40 {
		tag := fmt.Sprint("t", i)
		net.PushIndex(t, "library/app", tag, tag, "amd64")
		reader.do("HEAD", appBlobs+digest.FromString(tag).String())
		digests := pull(t, "tools/library/app", tag, writer)
		for _, d := range digests {
			if reader.do("HEAD", toolsApp+d.String()).status != 200 && reader.do("HEAD", appBlobs+d.String()).status != 200 {
				t.Fatalf("image %d: %s is missing", i, d)
			}
		}
	}
}

// TestCoarseTimes: a record that is written without a change of the directory's time
// is found, because a time that was seen a moment ago is not trusted.
func TestCoarseTimes(t *testing.T) {
	net := newNetwork(t)
	writer := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	writer.get(toolsApp + "1")
	q, err := writer.server.named.paths.parse(route{token: "tools", name: "library/app"}, "")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(net.dir, "records", filepath.FromSlash(q.imagesDir()))
	at := time.Now().Truncate(time.Second)
	if err := os.Chtimes(dir, at, at); err != nil {
		t.Fatal(err)
	}
	reader := net.start()
	if a := reader.do("HEAD", appBlobs+digest.FromString("unknown").String()); a.status != 404 {
		t.Fatal(a.status)
	}
	net.PushIndex(t, "library/app", "2", "two", "amd64")
	digests := pull(t, "tools/library/app", "2", writer)
	if err := os.Chtimes(dir, at, at); err != nil {
		t.Fatal(err)
	}
	if a := reader.do("HEAD", appBlobs+digests[len(digests)-1].String()); a.status != 200 {
		t.Errorf("status %d", a.status)
	}
}

// TestIndexMemory: what the index has forgotten, and what it does not keep because it
// is too large, is read again.
func TestIndexMemory(t *testing.T) {
	net := newNetwork(t)
	writer := net.start()
	var all []digest.Digest
	for i := range 5 {
		net.PushIndex(t, "library/app", fmt.Sprint(i), fmt.Sprint(i), "amd64")
		all = append(all, pull(t, "tools/library/app", fmt.Sprint(i), writer)...)
	}
	for name, cost := range map[string]int64{"all": 16 << 10, "none that large": 1 << 10, "none": 16} {
		reader := net.start()
		x := reader.server.named.ledger.index
		x.max, x.maxOne, x.chunk = cost, cost, 2
		for _, d := range all {
			if reader.do("HEAD", toolsApp+d.String()).status != 200 && reader.do("HEAD", appBlobs+d.String()).status != 200 {
				t.Errorf("%s: %s is missing", name, d)
			}
		}
		if x.cost > cost {
			t.Errorf("%s: the index costs %d bytes", name, x.cost)
		}
	}
}

// TestDamagedRecordOfImage: a damaged record is no record. It is read again when the
// next pull of the tag has written it anew.
func TestDamagedRecordOfImage(t *testing.T) {
	net := newNetwork(t)
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	digests := pull(t, "tools/library/app", "1", net.start())
	records, err := filepath.Glob(filepath.Join(recordsOf(t, net), "*", "images", "*"))
	if err != nil || len(records) != 1 {
		t.Fatal(records, err)
	}
	if err := os.WriteFile(records[0], []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	reader := net.start()
	last := appBlobs + digests[len(digests)-1].String()
	if a := reader.do("HEAD", last); a.status != 404 {
		t.Fatal(a.status)
	}
	net.start().get(toolsApp + "1")
	if a := reader.do("HEAD", last); a.status != 200 {
		t.Errorf("after the record was written anew: status %d", a.status)
	}
}

// TestFilesOfStrangers: a stranger's manifest costs two files, however many layers it
// lists, and none when it is asked for again.
func TestFilesOfStrangers(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	var layers []string
	for i := range 4000 {
		layers = append(layers, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, ocispec.MediaTypeImageLayerGzip, digest.FromString(fmt.Sprint(i))))
	}
	o := net.PutManifest("library/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageManifest, Data: []byte(
		fmt.Sprintf(`{"schemaVersion":2,"config":{"digest":%q,"size":1},"layers":[%s]}`, digest.FromString("config"), strings.Join(layers, ",")))}, "1")
	before := countFiles(t, net.dir)
	for range 3 {
		s.get(toolsApp + o.Digest().String())
	}
	if n := countFiles(t, net.dir) - before; n != 2 {
		t.Errorf("%d files, want 2", n)
	}
	if a := net.start().do("HEAD", appBlobs+digest.FromString("3999").String()); a.status != 200 {
		t.Errorf("a layer of it: status %d", a.status)
	}
}

func countFiles(t *testing.T, dir string) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}
