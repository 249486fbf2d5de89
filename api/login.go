package api

import (
	"net/http"
	"strings"

	"github.com/distribution/reference"
	"github.com/waveproxy/waveproxy/front"
)

// LoginRequest asks whether a registry accepts a login.
type LoginRequest struct {
	UserName string `json:"userName"`
	Password string `json:"password"`
	Registry string `json:"registry,omitempty"` // default docker.io
}

// WrappedLoginRequest is a LoginRequest as /validate-creds has it.
type WrappedLoginRequest struct {
	Request LoginRequest `json:"request"`
}

// postLogin answers true or false. If the registry does not answer, Wave answers
// false and people change passwords that are right; here that is an error.
func (s server) postLogin(w http.ResponseWriter, r *http.Request) (any, error) {
	var req LoginRequest
	if _, err := s.decode(w, r, &req); err != nil {
		return nil, err
	}
	return s.checkLogin(w, r, req)
}

func (s server) postWrappedLogin(w http.ResponseWriter, r *http.Request) (any, error) {
	var req WrappedLoginRequest
	if _, err := s.decode(w, r, &req); err != nil {
		return nil, err
	}
	return s.checkLogin(w, r, req.Request)
}

func (s server) checkLogin(w http.ResponseWriter, r *http.Request, req LoginRequest) (any, error) {
	if _, err := s.caller(w, r, ""); err != nil {
		return nil, err
	}
	for _, f := range []struct{ member, value string }{{"userName", req.UserName}, {"password", req.Password}} {
		if strings.TrimSpace(f.value) == "" {
			return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s is missing or blank", f.member)
		}
	}
	host, err := parseRegistry(req.Registry)
	if err != nil {
		return nil, err
	}
	accepted, err := s.Registries.CheckLogin(r.Context(), host, req.UserName, req.Password)
	if err != nil {
		return nil, err
	}
	return accepted, nil
}

// parseRegistry returns the host of a registry as image names have it. People also
// give it as a URL.
func parseRegistry(text string) (string, error) {
	if text == "" {
		return "docker.io", nil
	}
	host := strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	host = strings.TrimSuffix(host, "/")
	const name = "any/name"
	ref, err := reference.ParseNormalizedNamed(host + "/" + name)
	if err != nil || reference.Path(ref) != name {
		return "", front.Refuse(http.StatusBadRequest, front.Unsupported, "registry %.200q: want a host such as quay.io or registry.local:5000", text)
	}
	return reference.Domain(ref), nil
}
