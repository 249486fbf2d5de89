package acr

import (
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestIdentities(t *testing.T) {
	const scope = "https://containerregistry.azure.net/.default openid offline_access profile"
	federated := func(t *testing.T, _ *standIn) map[string]string {
		return map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_FEDERATED_TOKEN_FILE": write(t, assertion)}
	}
	entra := "/" + tenant + "/oauth2/v2.0/token"
	imds := "/metadata/identity/oauth2/token"
	tests := map[string]struct {
		options Options
		env     func(*testing.T, *standIn) map[string]string
		path    string
		form    url.Values
	}{
		"service principal": {
			servicePrincipal, nil, entra,
			url.Values{"client_id": {client}, "client_secret": {clientSecret}, "scope": {scope}, "grant_type": {"client_credentials"}},
		},
		"service principal of the environment": {
			Options{}, func(*testing.T, *standIn) map[string]string {
				return map[string]string{"AZURE_TENANT_ID": tenant, "AZURE_CLIENT_ID": client, "AZURE_CLIENT_SECRET": clientSecret}
			}, entra,
			url.Values{"client_id": {client}, "client_secret": {clientSecret}},
		},
		"workload identity": {
			Options{}, federated, entra,
			url.Values{"client_id": {client}, "client_assertion": {assertion}, "scope": {scope}},
		},
		"another workload identity": {
			Options{ClientID: "33333333"}, federated, entra,
			url.Values{"client_id": {"33333333"}, "client_assertion": {assertion}},
		},
		"managed identity": {
			Options{}, nil, imds,
			url.Values{"client_id": nil, "resource": {"https://containerregistry.azure.net"}},
		},
		"managed identity with a client ID": {
			Options{ManagedIdentity: true, ClientID: "44444444"}, federated, imds,
			url.Values{"client_id": {"44444444"}},
		},
		"managed identity with the client ID of the environment": {
			Options{ManagedIdentity: true}, func(*testing.T, *standIn) map[string]string {
				return map[string]string{"AZURE_CLIENT_ID": "55555555"}
			}, imds,
			url.Values{"client_id": {"55555555"}},
		},
		"managed identity of App Service": {
			Options{ManagedIdentity: true, ClientID: "66666666"}, func(_ *testing.T, s *standIn) map[string]string {
				return map[string]string{"IDENTITY_ENDPOINT": s.metadata.URL + "/msi/token", "IDENTITY_HEADER": header}
			}, "/msi/token",
			url.Values{"client_id": {"66666666"}},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			s := newAzure(t)
			if test.env != nil {
				for name, value := range test.env(t, s) {
					t.Setenv(name, value)
				}
			}
			k, _ := newTest(t, s, test.options)
			want(t, s, k, registry)
			want(t, s, k, registry)
			tokens, exchanges := s.calls("token"), s.calls("exchange")
			if len(tokens) != 1 || len(exchanges) != 1 || tokens[0].Path != test.path {
				t.Fatalf("asked for tokens %v, exchanges %v", tokens, exchanges)
			}
			for field := range test.form {
				if got, want := tokens[0].Form.Get(field), test.form.Get(field); got != want {
					t.Errorf("%s is %q, want %q", field, got, want)
				}
			}
			form := exchanges[0].Form
			if form.Get("grant_type") != "access_token" || form.Get("service") != registry || form.Get("access_token") != s.access {
				t.Errorf("exchanged %v", form)
			}
		})
	}
}

func TestRegistries(t *testing.T) {
	s := newAzure(t)
	k, _ := newTest(t, s, servicePrincipal)
	for _, registry := range []string{
		"", "docker.io", "azurecr.io", "evilazurecr.io", "team.azurecr.io.example.org", "team.azurecr.io:443", "team.azurecr.com",
		"team.azurecr.io@example.org", "example.org/team.azurecr.io", "team.azurecr.io\n", ".azurecr.io", "mcr.microsoft.com",
	} {
		if c, err := k.Credential(t.Context(), auth.Target{Registry: registry}); err != nil || c != (auth.Credential{}) {
			t.Errorf("%q: got %v, %v", registry, c, err)
		}
	}
	if n := s.Count() + s.metadata.Count(); n != 0 {
		t.Errorf("%d requests for registries of others", n)
	}
	for _, registry := range []string{registry, "Team.azurecr.io", "team-0a1b.eu.azurecr.io", "team.azurecr.us", "team.azurecr.cn"} {
		want(t, s, k, registry)
	}
	var asked []string
	for _, r := range s.Requests() {
		if call(r) != "openid-configuration" {
			asked = append(asked, r.Host)
		}
	}
	if want := []string{
		"login.microsoftonline.com", "team.azurecr.io", "login.microsoftonline.com", "team-0a1b.eu.azurecr.io",
		"login.microsoftonline.us", "team.azurecr.us", "login.chinacloudapi.cn", "team.azurecr.cn",
	}; !slices.Equal(asked, want) {
		t.Errorf("asked %v\nwant  %v", asked, want)
	}
}

func TestTokensAreShared(t *testing.T) {
	s := newAzure(t)
	k, clock := newTest(t, s, servicePrincipal)
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() { want(t, s, k, registry) })
	}
	all.Wait()
	clock.Advance(2 * time.Hour)
	want(t, s, k, registry)
	if tokens, exchanges := len(s.calls("token")), len(s.calls("exchange")); tokens != 1 || exchanges != 1 {
		t.Errorf("%d tokens and %d exchanges for 51 questions, want 1", tokens, exchanges)
	}
	clock.Advance(time.Hour)
	want(t, s, k, registry)
	if exchanges := len(s.calls("exchange")); exchanges != 2 {
		t.Errorf("%d exchanges when the first token is over, want 2", exchanges)
	}
}

func TestTokensWithoutTime(t *testing.T) {
	for name, token := range map[string]string{"no JWT": "opaque", "no exp": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"} {
		t.Run(name, func(t *testing.T) {
			s := newAzure(t)
			s.refresh = token
			k, _ := newTest(t, s, servicePrincipal)
			want(t, s, k, registry)
			want(t, s, k, registry)
			if n := len(s.calls("exchange")); n != 2 {
				t.Errorf("%d exchanges, want 2", n)
			}
		})
	}
}

func TestOptions(t *testing.T) {
	tests := map[string]struct {
		options Options
		part    string
	}{
		"secret alone":      {Options{ClientSecret: clientSecret}, "goes with a tenant ID"},
		"no client":         {Options{ClientSecret: clientSecret, TenantID: tenant}, "goes with a tenant ID"},
		"secret, managed":   {Options{ClientSecret: clientSecret, TenantID: tenant, ClientID: client, ManagedIdentity: true}, "has no client secret"},
		"tenant of managed": {Options{TenantID: tenant, ManagedIdentity: true}, "has no tenant ID"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := New(test.options)
			cloudtest.WantError(t, err, []string{clientSecret}, test.part)
		})
	}
	for _, o := range []Options{{}, servicePrincipal, {ManagedIdentity: true, ClientID: client}, {TenantID: tenant, ClientID: client}} {
		if k, err := New(o); err != nil || k == nil {
			t.Errorf("%v", err)
		}
	}
}
