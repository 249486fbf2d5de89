package api

import (
	"errors"
	"net/http"
	"strings"

	"github.com/distribution/reference"

	"github.com/waveproxy/waveproxy/auth"
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
	in, err := s.receive(w, r, &req)
	if err != nil {
		return nil, err
	}
	defer in.release()
	return s.checkLogin(r, req, in.caller)
}

func (s server) postWrappedLogin(w http.ResponseWriter, r *http.Request) (any, error) {
	var req WrappedLoginRequest
	in, err := s.receive(w, r, &req)
	if err != nil {
		return nil, err
	}
	defer in.release()
	return s.checkLogin(r, req.Request, in.caller)
}

// checkLogin counts logins that the registry refuses as wrong logins to this server
// are counted, because it would otherwise try passwords for anyone, at registries
// that only this server reaches.
func (s server) checkLogin(r *http.Request, req LoginRequest, caller auth.Caller) (any, error) {
	for _, f := range []struct{ member, value string }{{"userName", req.UserName}, {"password", req.Password}} {
		if strings.TrimSpace(f.value) == "" {
			return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s is missing or blank", f.member)
		}
		if len(f.value) > maxWord {
			return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s has %d bytes, and at most %d are taken", f.member, len(f.value), maxWord)
		}
	}
	host, err := parseRegistry(req.Registry)
	if err != nil {
		return nil, err
	}
	if err := caller.Policy.CheckRegistry(host); err != nil {
		return nil, err
	}
	err = s.RegistryGuesses.TryAt(r.Context(), host, req.UserName, req.Password, func() error {
		accepted, err := s.Registries.CheckLogin(r.Context(), host, req.UserName, req.Password)
		if err == nil && !accepted {
			err = auth.ErrWrongLogin
		}
		return err
	})
	if errors.Is(err, auth.ErrWrongLogin) {
		return false, nil
	}
	if err != nil {
		return nil, err
	}
	return true, nil
}

// parseRegistry returns the host of a registry as image names have it. People also
// give it as a URL.
func parseRegistry(text string) (string, error) {
	if text == "" {
		return auth.DockerHub, nil
	}
	if len(text) > maxWord {
		return "", front.Refuse(http.StatusBadRequest, front.Unsupported, "registry %.40q…: a name of %d bytes, and at most %d are taken", text, len(text), maxWord)
	}
	host := strings.TrimPrefix(strings.TrimPrefix(text, "https://"), "http://")
	host = strings.TrimSuffix(host, "/")
	const name = "any/name"
	ref, err := auth.ParseImage(host + "/" + name)
	if err != nil || reference.Path(ref) != name {
		return "", front.Refuse(http.StatusBadRequest, front.Unsupported, "registry %.200q: want a host such as quay.io or registry.local:5000", text)
	}
	return reference.Domain(ref), nil
}
