package config

import (
	"fmt"

	"github.com/waveproxy/waveproxy/auth"
)

// The registries of clouds, for entries that name none.
var (
	ecrRegistries = patterns("*.dkr.ecr.*.amazonaws.com", "public.ecr.aws")
	garRegistries = patterns("*.pkg.dev", "gcr.io", "*.gcr.io")
	acrRegistries = patterns("*.azurecr.io")
)

// patterns panics for a text that is no pattern.
func patterns(texts ...string) []auth.Pattern {
	var list []auth.Pattern
	for _, text := range texts {
		p, err := auth.ParsePattern(text)
		if err != nil {
			panic(err)
		}
		list = append(list, p)
	}
	return list
}

func orDefault(given, fallback []auth.Pattern) []auth.Pattern {
	if len(given) == 0 {
		return fallback
	}
	return given
}

// Clouds are the registries of cloud providers. Each entry has patterns of its
// registries; the first entry that matches counts.
type Clouds struct {
	// ECR is the Amazon Elastic Container Registry, private or public.
	ECR []ECR `yaml:"ecr"`
	// GAR is Google Artifact Registry, and what is left of Container Registry.
	GAR []GAR `yaml:"gar"`
	// ACR is Azure Container Registry.
	ACR []ACR `yaml:"acr"`
}

// ECR is the Amazon Elastic Container Registry, private or public.
type ECR struct {
	// Registries are patterns. Default: ["*.dkr.ecr.*.amazonaws.com",
	// "public.ecr.aws"].
	Registries []auth.Pattern `yaml:"registries"`
	// AccessKeyID is the key of a user, and needs one of the secrets. Default: the
	// credentials that the AWS SDK finds: its environment variables, the role of the
	// pod or of the machine.
	AccessKeyID string `yaml:"access_key_id"`
	// SecretAccessKey is the secret of the key.
	SecretAccessKey Secret `yaml:"secret_access_key"`
	// SecretAccessKeyFile holds the secret.
	SecretAccessKeyFile string `yaml:"secret_access_key_file"`
	// SecretAccessKeyEnv is the environment variable that holds it.
	SecretAccessKeyEnv string `yaml:"secret_access_key_env"`
	// Role is the ARN of a role to assume.
	Role string `yaml:"role"`
	// ExternalID is the external id that the trust policy of the role asks for.
	ExternalID string `yaml:"external_id"`
	// Endpoint is the URL of the ECR API, for a VPC endpoint. Default: AWS's.
	Endpoint URL `yaml:"endpoint"`
}

// Patterns returns the registries of the entry.
func (e ECR) Patterns() []auth.Pattern { return orDefault(e.Registries, ecrRegistries) }

// Secret returns the secret access key, or "" if none is given.
func (e ECR) Secret() (string, error) { return e.secretAccessKey().readGiven() }

func (e ECR) secretAccessKey() secretSource {
	return secretSource{e.SecretAccessKey, e.SecretAccessKeyFile, e.SecretAccessKeyEnv}
}

// GAR is Google Artifact Registry, and what is left of Container Registry.
type GAR struct {
	// Registries are patterns. Default: ["*.pkg.dev", "gcr.io", "*.gcr.io"].
	Registries []auth.Pattern `yaml:"registries"`
	// KeyFile is a service account's key in JSON. Default: the credentials that
	// Google's library finds: GOOGLE_APPLICATION_CREDENTIALS, workload identity, the machine's
	// service account.
	KeyFile string `yaml:"key_file"`
}

// Patterns returns the registries of the entry.
func (g GAR) Patterns() []auth.Pattern { return orDefault(g.Registries, garRegistries) }

// ACR is Azure Container Registry.
type ACR struct {
	// Registries are patterns. Default: ["*.azurecr.io"].
	Registries []auth.Pattern `yaml:"registries"`
	// Tenant is the tenant of a service principal.
	Tenant string `yaml:"tenant"`
	// ClientID is a service principal, with a tenant and a secret, or alone a
	// user-assigned managed identity. Default: the identity that the Azure SDK finds:
	// workload identity, the machine's managed identity.
	ClientID string `yaml:"client_id"`
	// ClientSecret is the secret of the service principal.
	ClientSecret Secret `yaml:"client_secret"`
	// ClientSecretFile holds the secret.
	ClientSecretFile string `yaml:"client_secret_file"`
	// ClientSecretEnv is the environment variable that holds it.
	ClientSecretEnv string `yaml:"client_secret_env"`
}

// Patterns returns the registries of the entry.
func (a ACR) Patterns() []auth.Pattern { return orDefault(a.Registries, acrRegistries) }

// Secret returns the client secret, or "" if none is given.
func (a ACR) Secret() (string, error) { return a.clientSecret().readGiven() }

// ManagedIdentity reports whether the client is the identity of a machine: it has
// neither tenant nor secret.
func (a ACR) ManagedIdentity() bool {
	return a.ClientID != "" && a.Tenant == "" && !a.clientSecret().given()
}

func (a ACR) clientSecret() secretSource {
	return secretSource{a.ClientSecret, a.ClientSecretFile, a.ClientSecretEnv}
}

func (c Clouds) check(k checker) {
	for i, e := range c.ECR {
		key := fmt.Sprintf("clouds.ecr[%d]", i)
		k.secret(key+".secret_access_key", e.secretAccessKey())
		if (e.AccessKeyID == "") == e.secretAccessKey().given() {
			k.add(key+".access_key_id", e.AccessKeyID, "give both the id and the secret of the key, or neither")
		}
		if e.ExternalID != "" && e.Role == "" {
			k.add(key+".external_id", e.ExternalID, "is for a role, and none is given")
		}
	}
	for i, g := range c.GAR {
		key := fmt.Sprintf("clouds.gar[%d]", i)
		k.readable(key+".key_file", g.KeyFile)
	}
	for i, a := range c.ACR {
		key := fmt.Sprintf("clouds.acr[%d]", i)
		k.secret(key+".client_secret", a.clientSecret())
		if a.clientSecret().given() && (a.Tenant == "" || a.ClientID == "") {
			k.add(key+".client_id", a.ClientID, "a client secret needs tenant and client_id")
		}
	}
}
