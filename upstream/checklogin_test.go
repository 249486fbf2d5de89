package upstream

import (
	"errors"
	"net/http"
	"strings"
	"testing"
)

func TestCheckLogin(t *testing.T) {
	basic := func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ci" || password != "hunter2" {
			w.Header().Set("Www-Authenticate", `Basic realm="registry"`)
			w.WriteHeader(http.StatusUnauthorized)
		}
	}
	tokens := &bearer{service: "registry", password: "hunter2"}
	login := newServer(t, tokens.login)
	tokens.realm = login.URL + "/token"
	token := func(w http.ResponseWriter, r *http.Request) { tokens.registry(w, r) }
	for name, test := range map[string]struct {
		registry http.HandlerFunc
		password string
		ok       bool
		kind     Kind // of the error, if there must be one
	}{
		"basic":             {basic, "hunter2", true, 0},
		"basic, wrong":      {basic, "wrong", false, 0},
		"bearer":            {token, "hunter2", true, 0},
		"bearer, wrong":     {token, "wrong", false, 0},
		"answers at once":   {func(http.ResponseWriter, *http.Request) {}, "x", true, 0},
		"forbids":           {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) }, "x", false, 0},
		"no registry there": {http.NotFound, "x", false, NotFound},
		"fails":             {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) }, "x", false, Failed},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, test.registry)
			o := listed(s)
			o.Registries[login.Host()] = Registry{PlainHTTP: true}
			c, _ := newClient(t, o)
			ok, err := c.CheckLogin(t.Context(), "example.org", "ci", test.password)
			e, _ := errors.AsType[*Error](err)
			if ok != test.ok || (err != nil) != (test.kind != 0) || (e != nil && e.Kind != test.kind) {
				t.Errorf("%v, %v; want %v and error kind %d", ok, err, test.ok, test.kind)
			}
			if err != nil && (strings.Contains(err.Error(), test.password+" ") || !strings.HasPrefix(err.Error(), "log in to example.org: ")) {
				t.Errorf("error %q", err)
			}
		})
	}
}
