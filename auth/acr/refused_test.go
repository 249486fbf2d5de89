package acr

import (
	"bytes"
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func answers(status int, body string) func(http.ResponseWriter) {
	return func(w http.ResponseWriter) { cloudtest.JSON(w, status, body) }
}

func TestRefusals(t *testing.T) {
	// quote makes an answer that quotes secrets of the test.
	type quote func(s *standIn) func(http.ResponseWriter)
	says := func(status int, body string) quote {
		return func(*standIn) func(http.ResponseWriter) { return answers(status, body) }
	}
	tests := map[string]struct {
		options Options
		call    string
		refuse  quote
		parts   []string
	}{
		"wrong secret": {
			servicePrincipal, "token",
			func(*standIn) func(http.ResponseWriter) {
				return answers(401, `{"error":"invalid_client","error_description":"AADSTS7000215: Invalid client secret provided: `+clientSecret+`.\r\nTrace ID: 1"}`)
			},
			[]string{"access token for the service principal: status 401: invalid_client: AADSTS7000215: Invalid client secret provided: [hidden]. Trace ID: 1; check tenant ID"},
		},
		"no such identity": {
			Options{ManagedIdentity: true, ClientID: "no-such-identity"}, "token", says(400, `{"error":"invalid_request","error_description":"Identity not found"}`),
			[]string{"managed identity", "status 400: invalid_request: Identity not found", "assign the identity with that client ID"},
		},
		"metadata proxy": {
			Options{ManagedIdentity: true, ClientID: "proxied"}, "token", says(403, `not here`),
			[]string{"managed identity", "status 403", "workload identity"},
		},
		"no AcrPull": {
			servicePrincipal, "exchange", says(401, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`),
			[]string{"exchange the access token of the service principal at team.azurecr.io: status 401: UNAUTHORIZED: authentication required; the identity needs the role AcrPull"},
		},
		"exchange quotes": {
			servicePrincipal, "exchange",
			func(s *standIn) func(http.ResponseWriter) {
				return answers(403, `{"errors":[{"code":"DENIED","message":"token `+s.access+` and `+s.refresh+`"}]}`)
			},
			[]string{"status 403: DENIED: token [hidden] and [hidden]"},
		},
		"exchange answers with a token": {
			servicePrincipal, "exchange",
			func(s *standIn) func(http.ResponseWriter) { return answers(403, `{"refresh_token":"`+s.refresh+`"}`) },
			[]string{"status 403; "},
		},
		"exchange answers with nothing": {servicePrincipal, "exchange", says(200, `{}`), []string{"no refresh token"}},
		"exchange answers nonsense": {
			servicePrincipal, "exchange",
			func(s *standIn) func(http.ResponseWriter) { return answers(200, `{"refresh_token":"`+s.refresh) },
			[]string{"unexpected end of JSON"},
		},
		"exchange redirects": {
			servicePrincipal, "exchange", func(*standIn) func(http.ResponseWriter) {
				return func(w http.ResponseWriter) {
					w.Header().Set("Location", "https://elsewhere.example/")
					w.WriteHeader(http.StatusTemporaryRedirect)
				}
			},
			[]string{"status 307"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newAzure(t)
			s.refuse[test.call] = test.refuse(s)
			k, _ := newTest(t, s, test.options)
			for range 2 {
				got, err := k.Credential(t.Context(), auth.Target{Registry: registry})
				cloudtest.WantError(t, err, s.secrets(), append(test.parts, "log in to Azure for "+registry)...)
				if !got.IsZero() {
					t.Errorf("got %v and an error", got)
				}
			}
			if n := len(s.calls(test.call)); n != 1 {
				t.Errorf("%d requests for 2 questions, want 1", n)
			}
		})
	}
}

func TestWorkloadIdentityIncomplete(t *testing.T) {
	s := newAzure(t)
	t.Setenv("AZURE_FEDERATED_TOKEN_FILE", "/nowhere/token")
	k, _ := newTest(t, s, Options{})
	_, err := k.Credential(t.Context(), auth.Target{Registry: registry})
	cloudtest.WantError(t, err, s.secrets(), "find Azure identity: no client ID specified")

	k, _ = newTest(t, s, Options{ClientID: client, TenantID: tenant})
	_, err = k.Credential(t.Context(), auth.Target{Registry: registry})
	cloudtest.WantError(t, err, s.secrets(), "workload identity", "/nowhere/token: no such file")
}

func TestWaitersLeave(t *testing.T) {
	s := newAzure(t)
	arrived, gate := make(chan struct{}), make(chan struct{})
	s.refuse["exchange"] = func(w http.ResponseWriter) {
		close(arrived)
		<-gate
		cloudtest.JSON(w, http.StatusOK, `{"refresh_token":"`+s.refresh+`"}`)
	}
	k, _ := newTest(t, s, servicePrincipal)
	ctx, leave := context.WithCancel(t.Context())
	errs := make(chan error)
	go func() {
		_, err := k.Credential(ctx, auth.Target{Registry: registry})
		errs <- err
	}()
	<-arrived
	leave()
	err := <-errs
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	cloudtest.WantError(t, err, s.secrets(), registry)
	close(gate)
	want(t, s, k, registry)
	if n := len(s.calls("exchange")); n != 1 {
		t.Errorf("%d exchanges, want 1", n)
	}
}

// TestLogIsOff runs the refusals in a process of its own, because the SDK decides at
// its start whether it logs.
func TestLogIsOff(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestRefusals$")
	cmd.Env = []string{"AZURE_SDK_GO_LOGGING=all"}
	var logged bytes.Buffer
	cmd.Stderr = &logged
	if out, err := cmd.Output(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if logged.Len() > 0 {
		t.Errorf("the SDK logs: %s", logged.String())
	}
}
