package assemble

import (
	"archive/tar"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/augment/archivetest"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

const bundle = "etc/ssl/certs/ca-certificates.crt"

func withBundle(t *testing.T) []byte {
	return archivetest.Layer(t,
		archivetest.File{Name: "./" + bundle, Text: "old", Mode: 0o600},
		archivetest.File{Name: "etc/passwd", Text: "secret"},
		archivetest.File{Name: bundle, Text: "roots", Mode: 0o640},
		archivetest.File{Name: "etc/hard", Type: tar.TypeLink, Link: "./etc/passwd"},
		archivetest.File{Name: "etc/link", Type: tar.TypeSymlink, Link: "passwd"})
}

func wantBundle(t *testing.T, files map[string]layerindex.File, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if f := files[bundle]; len(files) != 2 || string(f.Data) != "roots" || f.Mode != 0o640 || files["etc/hard"].Link != "etc/passwd" {
		t.Errorf("files %+v", files)
	}
}

// TestFilesAreReadOnce: files come from the layer once, then from a record, after one
// HEAD has proven the right; without the right nothing is given.
func TestFilesAreReadOnce(t *testing.T) {
	f := newFixture(t)
	d := f.pushLayer("library/base", withBundle(t))
	names := []string{bundle, "etc/hard", "etc/link", "etc/none"}
	files, err := f.indexer(base).Files(t.Context(), d, names)
	wantBundle(t, files, err)
	f.registry.WantRequests(t, blob("GET", d.Digest))
	other := f.indexer(base)
	for range 3 {
		files, err = other.Files(t.Context(), d, names)
		wantBundle(t, files, err)
	}
	f.registry.WantRequests(t, blob("HEAD", d.Digest))
	attacker := auth.Target{Registry: "docker.io", Repository: "library/attacker"}
	for _, source := range []baseSource{f.indexer(attacker), other.bases.repository(attacker)} {
		files, err := source.Files(t.Context(), d, names)
		if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.NotFound || files != nil {
			t.Errorf("without the right: %v, %v", files, err)
		}
	}
	// A registry cannot vouch for what another one sent.
	vouching := vouching(t, d.Size)
	_, err = f.twoRegistries(t, vouching).repository(auth.Target{Registry: vouching.Host(), Repository: "library/base"}).Files(t.Context(), d, names)
	if e, ok := errors.AsType[*upstream.Error](err); !ok || e.Kind != upstream.NotFound {
		t.Errorf("by another registry's word: %v", err)
	}
	f.registry.TakeRequests()
	if _, err := other.Files(t.Context(), d, names[:1]); err != nil {
		t.Fatal(err)
	}
	f.registry.WantRequests(t, blob("GET", d.Digest)) // other names are another question
	record := filesRecord(f.registry.URL, d.Digest, names)
	data, err := f.store.Record(t.Context(), record)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-4] ^= 1
	if err := f.store.PutRecord(t.Context(), record, data); err != nil {
		t.Fatal(err)
	}
	files, err = f.indexer(base).Files(t.Context(), d, names)
	wantBundle(t, files, err)
	f.registry.WantRequests(t, blob("GET", d.Digest))
}

// TestFilesRefused: bytes that are not the layer's are never taken, and what a layer must
// not cost is refused.
func TestFilesRefused(t *testing.T) {
	f := newFixture(t)
	lying := f.pushLayer("library/base", withBundle(t))
	f.registry.AnswerAt(upstreamtest.BlobPath("library/base", lying.Digest),
		upstreamtest.Object{Data: archivetest.Layer(t, archivetest.File{Name: bundle, Text: "evil"})}.ServeHTTP)
	encrypted := f.pushLayer("library/base", withBundle(t))
	encrypted.MediaType += "+encrypted"
	large := f.pushLayer("library/base", archivetest.Layer(t, archivetest.File{Name: bundle, Text: strings.Repeat("x", layerindex.MaxFile+1)}))
	text := f.pushLayer("library/base", []byte("this is no archive at all"))
	for name, test := range map[string]struct {
		d    ocispec.Descriptor
		user bool // the user's fault
		says string
	}{
		"other bytes": {lying, false, "digest"},
		"encrypted":   {encrypted, true, "is encrypted"},
		"large":       {large, true, "of this file at most 4194304 are read"},
		"no archive":  {text, true, "is cut off"},
		"no digest":   {ocispec.Descriptor{Digest: "sha256:1"}, true, "invalid checksum digest length"},
	} {
		_, err := f.indexer(base).Files(t.Context(), test.d, []string{bundle})
		_, user := errors.AsType[*augment.Error](err)
		if err == nil || user != test.user || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err := f.store.Record(t.Context(), filesRecord(f.registry.URL, test.d.Digest, []string{bundle})); err == nil {
			t.Errorf("%s: there is a record", name)
		}
	}
	f.registry.AnswerAt(upstreamtest.BlobPath("library/base", lying.Digest), nil)
	good := f.pushLayer("library/base", withBundle(t))
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Request: 1, All: 64 << 20}})
	_, err := f.indexer(base).Files(budget.With(t.Context(), ledger.Open("a")), good, []string{bundle})
	if e, ok := errors.AsType[*budget.Exceeded](err); !ok || e.Kind != budget.Memory {
		t.Errorf("beyond the budget: %v", err)
	}
	eventually(t, "memory is still held", func() bool { return ledger.Held(budget.Memory) == 0 })
}

// TestFilesOfAnyBytes: names, links and attributes come from the record as they are in the
// layer, also where they are not UTF-8.
func TestFilesOfAnyBytes(t *testing.T) {
	f := newFixture(t)
	const name, odd = "opt/caf\xe9/cacerts", "a\xff\x00\xfe"
	d := f.pushLayer("library/base", archivetest.Layer(t,
		archivetest.File{Name: name, Text: "\xff\x00", PAX: map[string]string{"SCHILY.xattr.user.\xe9": odd}},
		archivetest.File{Name: "opt/hard", Type: tar.TypeLink, Link: name}))
	names := []string{name, "opt/hard"}
	first, err := f.indexer(base).Files(t.Context(), d, names)
	if err != nil {
		t.Fatal(err)
	}
	f.registry.TakeRequests()
	again, err := f.indexer(base).Files(t.Context(), d, names)
	if err != nil {
		t.Fatal(err)
	}
	f.registry.WantRequests(t, blob("HEAD", d.Digest)) // and so from the record
	if len(first) != 2 || len(first[name].Xattrs) != 1 || first["opt/hard"].Link != name {
		t.Errorf("from the layer: %+v", first)
	}
	if diff := cmp.Diff(first, again); diff != "" {
		t.Errorf("layer and record (-layer +record):\n%s", diff)
	}
}
