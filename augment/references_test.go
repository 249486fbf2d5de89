package augment

import (
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var anyDigest = digest.FromString("any").String()

// TestReferencesSmall: a kept descriptor has only its media type, digest and
// size.
func TestReferencesSmall(t *testing.T) {
	full := `"mediaType":"a/b","digest":"` + anyDigest + `","size":7,"urls":["u"],"data":"e30=","annotations":{"k":"v"},"artifactType":"t",` +
		`"platform":{"os":"linux","architecture":"arm","variant":"v7","os.version":"1","os.features":["f"]}`
	o := NewObject("", []byte(`{"manifests":[{`+full+`}],"config":{`+full+`},"layers":[{`+full+`},{`+full+`}]}`))
	small := ocispec.Descriptor{MediaType: "a/b", Digest: digest.Digest(anyDigest), Size: 7}
	entry := small
	entry.Platform = &ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	refs, err := o.References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(References{Manifests: []ocispec.Descriptor{entry}, Config: &small, Layers: []ocispec.Descriptor{small, small}}, refs); diff != "" {
		t.Errorf("references (-want +got):\n%s", diff)
	}
	refs, err = Object{Data: []byte(`{"manifests":[]}`)}.References(t.Context())
	if err != nil || refs.Manifests == nil {
		t.Errorf("an empty index: %+v, %v", refs, err)
	}
}

// TestReferencesRefused: a descriptor that no registry could serve is refused
// with the name of the document.
func TestReferencesRefused(t *testing.T) {
	good := `{"digest":"` + anyDigest + `","size":1}`
	list := func(n int) string { return `[` + strings.Repeat(good+",", n-1) + good + `]` }
	if _, err := NewObject("", []byte(`{"layers":`+list(maxLayers)+`,"manifests":`+list(maxChildren)+`}`)).References(t.Context()); err != nil {
		t.Errorf("as many as are allowed: %v", err)
	}
	tests := map[string]struct{ text, says string }{
		"many layers":    {`{"layers":` + list(maxLayers+1) + `}`, "4097 layers"},
		"many entries":   {`{"manifests":` + list(maxChildren+1) + `}`, "1025 entries"},
		"many elements":  {`{"new":[` + strings.Repeat("{},", MaxElements/2) + `{}]}`, "elements"},
		"deep":           {`{"new":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`, "levels deep"},
		"not an object":  {`{"layers":7}`, "not valid"},
		"annotations":    {`{"layers":[{"digest":"` + anyDigest + `","annotations":{"a":1}}]}`, "not valid"},
		"an empty entry": {`{"manifests":[null]}`, "entry 0"},
	}
	for name, member := range map[string]string{
		"negative size":   `"digest":"` + anyDigest + `","size":-1`,
		"enormous size":   `"digest":"` + anyDigest + `","size":` + fmt.Sprint(int64(maxSize)+1),
		"size beyond all": `"digest":"` + anyDigest + `","size":9223372036854775808`,
		"no digest":       `"size":1`,
		"short digest":    `"digest":"sha256:abc","size":1`,
		"a path":          `"digest":"sha256:../../x","size":1`,
		"long type":       `"mediaType":"` + strings.Repeat("x", maxType+1) + `","digest":"` + anyDigest + `","size":1`,
	} {
		tests[name+" of the config"] = struct{ text, says string }{`{"config":{` + member + `}}`, ""}
		tests[name+" of a layer"] = struct{ text, says string }{`{"layers":[` + good + `,{` + member + `}]}`, ""}
		tests[name+" of an entry"] = struct{ text, says string }{`{"manifests":[` + good + `,{` + member + `}]}`, ""}
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := NewObject("", []byte(test.text))
			refs, err := o.References(t.Context())
			refused(t, err, test.says)
			refused(t, err, o.Digest.String())
			if refs.Manifests != nil || refs.Config != nil || refs.Layers != nil {
				t.Error("there are references beside the error")
			}
		})
	}
}

// TestHostileSizes: Apply refuses them where it reads the document, also in an
// index that stays as it is.
func TestHostileSizes(t *testing.T) {
	m := newMemory()
	good := m.image("amd64", "")
	text := strings.Replace(string(good.Data), `"layers":[`, `"layers":[{"digest":"`+anyDigest+`","size":-1},`, 1)
	if text == string(good.Data) {
		t.Fatal("the manifest has no layers")
	}
	m.add(ocispec.MediaTypeImageManifest, text, "layer")
	m.index("entry", descriptor(good, platform("amd64")), `{"mediaType":"application/xml","digest":"`+anyDigest+`","size":-1}`)
	for _, test := range []struct {
		ref, says string
		recipe    Recipe
	}{
		{"layer", "size of -1", Recipe{}}, {"layer", "size of -1", Recipe{Env: []string{"A=b"}}}, {"entry", "size of -1", Recipe{}},
	} {
		_, err := apply(t, m, test.ref, test.recipe, "")
		refused(t, err, test.says)
	}
	// A rewritten index does not have the entry.
	mustApply(t, m, "entry", Recipe{Env: []string{"A=b"}}, "")
}

// TestReferencesCost: every document of 4 MiB costs little memory.
func TestReferencesCost(t *testing.T) {
	const most = 4 << 20
	fill := func(prefix, element string) string {
		return prefix + strings.Repeat(element+",", (most-len(prefix))/(len(element)+1)-1) + element + "]}"
	}
	heavy := `{"digest":"` + anyDigest + `","size":1,"annotations":{"a":"` + strings.Repeat("x", 16<<10) + `"},"data":"` + strings.Repeat("eHh4", 4<<10) + `"}`
	for name, test := range map[string]struct {
		text string
		ok   bool
	}{
		"entries":     {fill(`{"manifests":[`, "{}"), false},
		"layers":      {fill(`{"layers":[`, "{}"), false},
		"numbers":     {fill(`{"layers":[`, "0"), false},
		"annotations": {fill(`{"layers":[`, heavy), true},
	} {
		o := NewObject("", []byte(test.text))
		var before, between, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		refs, err := o.References(t.Context())
		runtime.ReadMemStats(&between)
		runtime.GC()
		runtime.ReadMemStats(&after)
		if (err == nil) != test.ok {
			t.Errorf("%s: %v", name, err)
		}
		if spent := between.TotalAlloc - before.TotalAlloc; spent > 16<<20 {
			t.Errorf("%s: %d MiB are allocated for a document of 4", name, spent>>20)
		}
		if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > 256<<10 {
			t.Errorf("%s: %d KiB are kept of a document", name, kept>>10)
		}
		runtime.KeepAlive(refs)
		runtime.KeepAlive(o)
	}
}
