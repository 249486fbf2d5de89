package acr

import (
	"cmp"
	"errors"
	"net/http"
	"net/url"
	"os"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// Options select the Azure identity that logs in. The first complete one counts:
//
//  1. ClientSecret, with TenantID and ClientID: a service principal.
//  2. ManagedIdentity: the managed identity of the machine.
//  3. Without any option, AZURE_CLIENT_SECRET or AZURE_CLIENT_CERTIFICATE_PATH
//     with AZURE_TENANT_ID and AZURE_CLIENT_ID: a service principal.
//  4. AZURE_FEDERATED_TOKEN_FILE, which AKS sets: a workload identity, with
//     TenantID and ClientID or AZURE_TENANT_ID and AZURE_CLIENT_ID.
//  5. The managed identity of the machine.
//
// If the machine has several managed identities, ClientID or AZURE_CLIENT_ID selects
// one.
type Options struct {
	TenantID        string
	ClientID        string
	ClientSecret    string
	ManagedIdentity bool
	// Proxy is the way to Azure; nil: direct.
	Proxy func(*http.Request) (*url.URL, error)
}

func (o Options) validate() error {
	switch {
	case o.ClientSecret != "" && (o.TenantID == "" || o.ClientID == ""):
		return errors.New("azure acr: a client secret goes with a tenant ID and a client ID")
	case o.ClientSecret != "" && o.ManagedIdentity:
		return errors.New("azure acr: a managed identity has no client secret: give only one of the two")
	case o.TenantID != "" && o.ManagedIdentity:
		return errors.New("azure acr: a managed identity has no tenant ID to configure: leave it out")
	}
	return nil
}

const (
	envClient      = "AZURE_CLIENT_ID"
	envSecret      = "AZURE_CLIENT_SECRET"
	envCertificate = "AZURE_CLIENT_CERTIFICATE_PATH"
	envToken       = "AZURE_FEDERATED_TOKEN_FILE"
)

// secrets returns the secrets that an answer might quote.
func (o Options) secrets() []string { return []string{o.ClientSecret, os.Getenv(envSecret)} }

// identity is a source of access tokens, with its name and the remedy for messages.
type identity struct {
	azcore.TokenCredential
	name, advice string
}

const advice = "configure a service principal, or run this server with a workload identity or a managed identity"

// identity returns the selected identity, with the environment read anew. It does
// not use DefaultAzureCredential, which also runs the command lines of developers.
func (o Options) identity(settings azcore.ClientOptions) (identity, error) {
	// The authorities are Azure's own, so no request is needed to find them.
	const knownAuthority = true
	var found identity
	var err error
	switch {
	case o.ClientSecret != "":
		found.name, found.advice = "service principal", "check tenant ID, client ID and client secret, and whether the secret has expired"
		found.TokenCredential, err = azidentity.NewClientSecretCredential(o.TenantID, o.ClientID, o.ClientSecret,
			&azidentity.ClientSecretCredentialOptions{ClientOptions: settings, DisableInstanceDiscovery: knownAuthority})
	case o.TenantID == "" && o.ClientID == "" && !o.ManagedIdentity && (os.Getenv(envSecret) != "" || os.Getenv(envCertificate) != ""):
		found.name, found.advice = "service principal of the environment", "check AZURE_TENANT_ID, AZURE_CLIENT_ID and the secret or certificate"
		found.TokenCredential, err = azidentity.NewEnvironmentCredential(
			&azidentity.EnvironmentCredentialOptions{ClientOptions: settings, DisableInstanceDiscovery: knownAuthority})
	case !o.ManagedIdentity && os.Getenv(envToken) != "":
		found.name, found.advice = "workload identity", "check its client ID, and that its federated credential names this server's service account"
		found.TokenCredential, err = azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{
			ClientOptions: settings, DisableInstanceDiscovery: knownAuthority, TenantID: o.TenantID, ClientID: o.ClientID,
		})
	default:
		found.name, found.advice = "managed identity", advice
		managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: settings}
		if id := cmp.Or(o.ClientID, os.Getenv(envClient)); id != "" {
			managed.ID = azidentity.ClientID(id)
			found.advice = "assign the identity with that client ID to the machine, or " + advice
		}
		found.TokenCredential, err = azidentity.NewManagedIdentityCredential(managed)
	}
	return found, err
}
