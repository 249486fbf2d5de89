package assemble

import (
	"net/http"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestWithdrawnLayers: a layer at docker://… that was taken in once is given again only to
// an identity that may read it now, while its registry answers. Recipes of the
// configuration keep theirs.
func TestWithdrawnLayers(t *testing.T) {
	f := newFixture(t)
	data, want := archive(t, "secret")
	blob := f.registry.PutBlob("library/private", upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: data})
	path := "/v2/library/private/blobs/" + blob.Digest().String()
	location := "docker://docker.io" + path
	take := func(identity string, restarted bool) error {
		layers := f.layers
		if restarted {
			layers = NewLayers(f.store, f.store, f.layers.upstream, t.TempDir(), maxLayer)
		}
		f.registry.TakeRequests()
		_, err := layers.Image(t.Context(), identity, location, want)
		return err
	}
	recipe := auth.RecipeIdentity("hello")
	for _, identity := range []string{"a", recipe} {
		if err := take(identity, false); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		answer    http.HandlerFunc
		identity  string
		restarted bool
		refused   bool
		asked     bool
	}{
		"readable":               {nil, "a", true, false, true},
		"proven just now":        {upstreamtest.Status(403), "a", false, false, false},
		"forbidden":              {upstreamtest.Status(403), "a", true, true, true},
		"no login any more":      {upstreamtest.Status(401), "a", true, true, true},
		"deleted":                {upstreamtest.Status(404), "a", true, true, true},
		"registry down":          {upstreamtest.Status(503), "a", true, false, true},
		"HEAD refused":           {headRefused(data), "a", true, false, true},
		"never seen by this one": {upstreamtest.Status(403), "b", false, true, true},
		"of a recipe":            {upstreamtest.Status(403), recipe, true, false, false},
	} {
		f.registry.AnswerAt(path, c.answer)
		err := take(c.identity, c.restarted)
		if asked := len(f.registry.TakeRequests()) > 0; (err != nil) != c.refused || asked != c.asked {
			t.Errorf("%s: %v, registry asked: %t", name, err, asked)
		}
	}
}

// headRefused answers GET only.
func headRefused(data []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodHead {
			w.WriteHeader(http.StatusMethodNotAllowed)
			return
		}
		_, _ = w.Write(data)
	}
}
