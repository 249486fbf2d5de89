package upstream

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"
)

const (
	schema1Path = "/v2/library/schema1/manifests/"
	schema1Type = "application/vnd.docker.distribution.manifest.v1+prettyjws"
)

// withSchema1 serves library/schema1:latest in front of next: distribution
// refuses to store schema 1 manifests since v3, but old registries still serve
// them. The layers do not exist, because no client gets that far.
func withSchema1(next http.Handler) http.Handler {
	body, payload := schema1()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ref, ok := strings.CutPrefix(r.URL.Path, schema1Path)
		read := r.Method == http.MethodGet || r.Method == http.MethodHead
		if !ok || !read || ref != "latest" && ref != payload.String() {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", schema1Type)
		w.Header().Set("Docker-Content-Digest", payload.String())
		w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		if r.Method == http.MethodGet {
			w.Write(body)
		}
	})
}

// schema1 returns a manifest in the signed form of old registries, and its digest
// there: the digest of the payload without the signatures. The signature is
// invented.
func schema1() (body []byte, payload digest.Digest) {
	v1 := `{"architecture":"amd64","config":{"Cmd":["sh"]},"id":"%064x","os":"linux"}`
	unsigned := map[string]any{
		"schemaVersion": 1,
		"name":          "library/schema1",
		"tag":           "latest",
		"architecture":  "amd64",
		"fsLayers":      []any{map[string]any{"blobSum": digest.FromString("schema 1 layer")}},
		"history":       []any{map[string]any{"v1Compatibility": fmt.Sprintf(v1, 1)}},
	}
	plain, err := json.MarshalIndent(unsigned, "", "   ")
	if err != nil {
		panic(err) // only strings and numbers
	}
	// The signatures are spliced in before the tail, which the protected header names.
	const tail = "\n}"
	protected := fmt.Sprintf(`{"formatLength":%d,"formatTail":"%s","time":"2016-01-01T00:00:00Z"}`,
		len(plain)-len(tail), base64.RawURLEncoding.EncodeToString([]byte(tail)))
	signatures := fmt.Sprintf(`,
   "signatures": [
      {
         "header": {"jwk": {"crv": "P-256", "kid": "TEST", "kty": "EC", "x": "AA", "y": "AA"}, "alg": "ES256"},
         "signature": "AAAA",
         "protected": "%s"
      }
   ]`, base64.RawURLEncoding.EncodeToString([]byte(protected)))
	return []byte(strings.TrimSuffix(string(plain), tail) + signatures + tail), digest.FromBytes(plain)
}
