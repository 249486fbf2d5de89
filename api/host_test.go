package api

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestRebinding: a web page whose name leads to this server's address cannot use
// it, unless the page could log in.
func TestRebinding(t *testing.T) {
	for host, known := range map[string]bool{
		"proxy.test:9090": true, "PROXY.test": true, "proxy.test.:80": true, "localhost:9090": true, "localhost": true,
		"127.0.0.1:9090": true, "10.0.0.7": true, "[::1]:9090": true, "[::1]": true, "::1": true, "waveproxy:9090": true, "": true,
		"wave.localhost": true, "waveproxy.default.svc:9090": true, "waveproxy.tools.svc.cluster.local": true,
		"build7.corp.example:9090": true, "0.0.0.0:9090": true,
		"evil.example": false, "evil.example:9090": false, "proxy.evil.example": false, "localhost.evil.example:9090": false,
		"127.0.0.1.evil.example": false, "proxytest.example": false, "127.0.0.1.nip.io": false,
	} {
		for name, with := range map[string]func(*Options){"open": func(*Options) {}, "basic": withPasswords, "bearer": withTokens(t)} {
			f, h := newAPI(with, func(o *Options) { o.Names = []string{":9090", "build7.corp.example"} })
			r := httptest.NewRequest("POST", container, strings.NewReader(`{"containerImage":"a"}`))
			r.Host = host
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			want := http.StatusUnauthorized
			if name == "open" {
				want = map[bool]int{true: http.StatusOK, false: http.StatusMisdirectedRequest}[known]
			}
			if w.Code != want {
				t.Errorf("%s, %q: %d %s, want %d", name, host, w.Code, w.Body, want)
			}
			if want == http.StatusMisdirectedRequest {
				checkError(t, w, want, "http.host")
				if len(f.calls) != 0 {
					t.Errorf("%q went on to %q", host, f.calls)
				}
			}
		}
	}
}
