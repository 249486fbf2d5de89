package registry

import (
	"fmt"
	"net/http"
	"testing"
)

// TestNamedTagIsKeptWithoutHead: a tag at a registry that refuses HEAD is confirmed
// with one GET, and neither forgotten nor made again.
func TestNamedTagIsKeptWithoutHead(t *testing.T) {
	for _, code := range []int{400, 401, 403, 404, 405} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			net := newNetwork(t)
			s := net.start()
			index := net.PushIndex(t, "library/app", "1", "one", "amd64").Index
			want := s.get(toolsApp + "1").digest()
			net.AnswerAt(appManifests+"1", func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead {
					w.WriteHeader(code)
					return
				}
				w.Header().Set("Content-Type", index.MediaType)
				_, _ = w.Write(index.Data)
			})
			for n := range 4 {
				net.advance(tagTTL)
				net.TakeRequests()
				for range 5 {
					if a := s.get(toolsApp + "1"); a.digest() != want || a.header.Get("Warning") != "" {
						t.Fatalf("%d: got %s, want %s", code, a.digest(), want)
					}
				}
				asked := []string{"GET " + appManifests + "1"}
				if n == 0 {
					asked = append(asked, "HEAD "+appManifests+"1")
				}
				net.WantAnyOrder(t, asked...)
			}
		})
	}
}
