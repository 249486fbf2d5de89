package metrics

import (
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/front"
)

func TestObserved(t *testing.T) {
	m := New("1.2.3")
	m.Observe(front.Request{Kind: "blob", Status: 200, Bytes: 1000, Source: "upstream", Took: 20 * time.Millisecond})
	m.Observe(front.Request{Kind: "blob", Status: 200, Bytes: 24, Source: "upstream", Took: time.Second})
	m.Observe(front.Request{Kind: "manifest", Status: 404})
	m.Observe(front.Request{Kind: "manifest", Status: 200, Untouched: true})
	m.Recipes([]string{"gone"}, nil)
	m.Recipes([]string{"fusion"}, []string{"tools"})
	m.Collected(3, 4096)
	m.Collected(0, 0)
	w := httptest.NewRecorder()
	m.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for _, line := range []string{
		`waveproxy_http_requests_total{kind="blob",status="200"} 2`,
		`waveproxy_http_requests_total{kind="manifest",status="404"} 1`,
		`waveproxy_untouched_manifests_total 1`,
		`waveproxy_blob_bytes_total{source="upstream"} 1024`,
		`waveproxy_http_request_seconds_bucket{kind="blob",le="0.064"} 1`,
		`waveproxy_recipe_loaded{recipe="fusion"} 1` + "\n" + `waveproxy_recipe_loaded{recipe="tools"} 0`,
		`waveproxy_build_info{version="1.2.3"} 1`,
		`waveproxy_collections_total 2`,
		`waveproxy_collected_files_total 3`,
		`waveproxy_collected_bytes_total 4096`,
	} {
		if !strings.Contains(w.Body.String(), line+"\n") {
			t.Errorf("no line %q in:\n%s", line, w.Body)
		}
	}
}
