package registry

import (
	"strings"
	"testing"
)

// TestNamedTagReloadAfterRefusal: a reload takes effect at once, also for a tag that
// the previous recipe made unfit.
func TestNamedTagReloadAfterRefusal(t *testing.T) {
	net := newNetwork(t)
	s := net.start()
	net.PushIndex(t, "library/app", "1", "one", "amd64")
	good, _ := net.Recipe("tools")
	bad := good
	bad.Env = []string{"LARGE=" + strings.Repeat("x", 1<<20)} // no grant holds it
	net.setRecipe("tools", bad)
	for range 2 {
		if a := s.do("GET", toolsApp+"1"); a.status != 400 {
			t.Fatalf("status %d under a recipe that is too large", a.status)
		}
	}
	net.setRecipe("tools", good)
	s.get(toolsApp + "1")
}
