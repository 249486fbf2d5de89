package registry

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// TestTagTTL: a recipe says how long its tags are served without asking, and a reload
// that shortens the time counts at once.
func TestTagTTL(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 5 * time.Minute, 24 * time.Hour} {
		t.Run(ttl.String(), func(t *testing.T) {
			net := newNetwork(t)
			recipe := net.recipes["tools"]
			recipe.TagTTL = ttl
			net.setRecipe("tools", recipe)
			s := net.start()
			net.PushIndex(t, "library/app", "1", "one", "amd64")
			s.get(toolsApp + "1")
			net.TakeRequests()
			for range 3 {
				net.advance(ttl - time.Millisecond)
				s.get(toolsApp + "1")
				net.WantAnyOrder(t)
				net.advance(time.Millisecond)
				s.get(toolsApp + "1")
				net.WantAnyOrder(t, "HEAD "+appManifests+"1")
			}
			net.advance(ttl - time.Millisecond)
			recipe.TagTTL = time.Millisecond
			net.setRecipe("tools", recipe)
			s.get(toolsApp + "1")
			net.WantAnyOrder(t, "HEAD "+appManifests+"1")
		})
	}
}

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
