package api

import (
	"net/http"
	"path"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

// route is one method of one path.
type route struct {
	method  string
	path    string // as http.ServeMux takes it
	handler endpoint
}

// routes returns the whole API. Dispatch, the Allow header and the test of the
// OpenAPI document use it.
func (s server) routes() []route {
	return []route{
		{http.MethodPost, "/v1alpha2/container", s.postContainer},
		{http.MethodGet, "/v1alpha2/container/{id}", s.withToken(s.getRecord)},
		{http.MethodGet, "/v1alpha2/container/{id}/status", s.withToken(s.getStatus)},
		// Older names of the same, for Nextflow 23.10 and before.
		{http.MethodPost, "/container-token", s.postContainer},
		{http.MethodGet, "/container-token/{id}", s.withToken(s.getToken)},
		{http.MethodDelete, "/container-token/{id}", s.deleteToken},

		{http.MethodPost, "/v1alpha1/inspect", s.postInspect},
		{http.MethodPost, "/v1alpha2/validate-creds", s.postLogin},
		{http.MethodPost, "/validate-creds", s.postWrappedLogin},

		{http.MethodGet, "/v1alpha1/builds/{id}", s.getJob},
		{http.MethodGet, "/v1alpha1/builds/{id}/{part}", s.getJob},
		{http.MethodGet, "/v1alpha1/mirrors/{id}", s.getJob},
		{http.MethodGet, "/v1alpha1/mirrors/{id}/{part}", s.getJob},
		{http.MethodGet, "/v1alpha1/scans/{id}", s.getJob},
		{http.MethodGet, "/v1alpha1/scans/{id}/{part}", s.getJob},

		{http.MethodGet, "/service-info", s.getServiceInfo},
		{http.MethodGet, "/openapi.json", getOpenAPI},
		{http.MethodGet, "/healthz", getHealth},
		{http.MethodGet, "/health", s.getWaveHealth},
		{http.MethodGet, "/readyz", s.getReady},
	}
}

// serve dispatches by the table: 405 for the other methods of its paths, 404
// for other paths.
func serve(routes []route) http.Handler {
	mux := http.NewServeMux()
	methods := map[string][]string{}
	for _, r := range routes {
		mux.Handle(r.method+" "+r.path, r.handler)
		methods[r.path] = append(methods[r.path], r.method)
	}
	for path, methods := range methods {
		if slices.Contains(methods, http.MethodGet) {
			methods = append(methods, http.MethodHead) // ServeMux sends it to GET's handler
		}
		slices.Sort(methods)
		mux.Handle(path, notAllowed(strings.Join(methods, ", ")))
	}
	mux.Handle("/", endpoint(notFound))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// ServeMux would answer these with a redirect, which clients do not follow.
		if p := r.URL.EscapedPath(); p != path.Clean(p) {
			endpoint(notFound).ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func notAllowed(allow string) endpoint {
	return func(w http.ResponseWriter, r *http.Request) (any, error) {
		w.Header().Set("Allow", allow)
		return nil, front.Refuse(http.StatusMethodNotAllowed, front.Unsupported, "%s takes %s, not %s", auth.Redact(r.URL.Path), allow, r.Method)
	}
}

func notFound(_ http.ResponseWriter, r *http.Request) (any, error) {
	return nil, front.Refuse(http.StatusNotFound, front.Unsupported, "no such endpoint: %.200q", auth.Redact(r.URL.Path))
}
