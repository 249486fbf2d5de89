package main

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
)

// Login is a user with a password, or an identity token, each given as it is,
// in a file, or in an environment variable, so that the secrets of containers
// can be mounted or set. Files and variables are read at the start.
type Login struct {
	// Username logs in to the registry; it needs one of the passwords. Default:
	// anonymous.
	Username string `yaml:"username"`
	// Password of the user, or an access token.
	Password secret `yaml:"password"`
	// PasswordFile holds the password. A line break at its end is not part of it.
	PasswordFile string `yaml:"password_file"`
	// PasswordEnv is the environment variable that holds the password.
	PasswordEnv string `yaml:"password_env"`
	// IdentityToken logs in at the registry's authorization service, in place of a
	// user and password.
	IdentityToken secret `yaml:"identity_token"`
	// IdentityTokenFile holds the identity token.
	IdentityTokenFile string `yaml:"identity_token_file"`
	// IdentityTokenEnv is the environment variable that holds it.
	IdentityTokenEnv string `yaml:"identity_token_env"`
}

func (l Login) password() secretSource {
	return secretSource{l.Password, l.PasswordFile, l.PasswordEnv}
}

func (l Login) identityToken() secretSource {
	return secretSource{l.IdentityToken, l.IdentityTokenFile, l.IdentityTokenEnv}
}

// credential is zero for no login. source names its place in the configuration.
func (l Login) credential(source string) (auth.Credential, error) {
	c := auth.Credential{Username: l.Username, Source: source}
	var err error
	switch {
	case l.identityToken().given():
		c.IdentityToken, err = l.identityToken().read()
	case l.password().given():
		c.Password, err = l.password().read()
	default:
		return auth.Credential{}, nil
	}
	return c, err
}

func (l Login) validate(key string, p *problems) {
	password, token := l.password().given(), l.identityToken().given()
	switch {
	case password && token:
		p.add(key+".identity_token", l.IdentityToken, "give either a password or an identity token")
	case password && l.Username == "":
		p.add(key+".username", l.Username, "a password needs a username")
	case !password && !token && l.Username != "":
		p.add(key+".username", l.Username, "a username needs a password, password_file or password_env")
	}
	p.secret(key+".password", l.password())
	p.secret(key+".identity_token", l.identityToken())
}

// secretSource is where a secret is given.
type secretSource struct {
	value     secret
	file, env string
}

func (s secretSource) given() bool { return s != (secretSource{}) }

// read returns the secret. Errors do not contain it.
func (s secretSource) read() (string, error) {
	switch {
	case s.value != "" && s.file == "" && s.env == "":
		return string(s.value), nil
	case s.file != "" && s.value == "" && s.env == "":
		text, err := readSecret(s.file)
		if err != nil {
			return "", errors.New(cause(err))
		}
		if text = bytes.TrimRight(text, "\r\n"); len(text) == 0 {
			return "", errors.New("the file is empty")
		}
		return string(text), nil
	case s.env != "" && s.value == "" && s.file == "":
		if text := os.Getenv(s.env); text != "" {
			return text, nil
		}
		return "", errors.New("the environment variable is not set, or empty")
	}
	return "", errors.New("give it in one way: as it is, in a file, or in an environment variable")
}

// secret reports a secret that cannot be read, under the key of the way it is
// given.
func (p *problems) secret(key string, s secretSource) {
	if !s.given() {
		return
	}
	if _, err := s.read(); err != nil {
		switch {
		case s.file != "":
			p.add(key+"_file", s.file, err.Error())
		case s.env != "":
			p.add(key+"_env", s.env, err.Error())
		}
	}
}

// CredentialSet is a set of logins that some callers use.
type CredentialSet struct {
	// Registries are logins by registry or registry and path, as in registries.
	Registries map[string]Login `yaml:"registries"`
	// DockerConfig is the path of a Docker config.json that has the logins for the
	// others. Default: none.
	DockerConfig string `yaml:"docker_config"`
}

func (s CredentialSet) validate(key string, p *problems) {
	for _, name := range slices.Sorted(maps.Keys(s.Registries)) {
		p.prefix(key+".registries", name)
		s.Registries[name].validate(key+".registries."+withoutUser(name), p)
	}
	p.readable(key+".docker_config", s.DockerConfig)
}

// Clouds are the registries of cloud providers, by provider. Each entry has
// patterns of the registries it is for; the first one that fits counts.
type Clouds struct {
	ECR []ECR `yaml:"ecr"`
	GAR []GAR `yaml:"gar"`
	ACR []ACR `yaml:"acr"`
}

// ECR is the Amazon Elastic Container Registry, private or public.
type ECR struct {
	// Registries default to ["*.dkr.ecr.*.amazonaws.com", "public.ecr.aws"].
	Registries []string `yaml:"registries"`
	// AccessKeyID and its secret are those of a user. Default: what the AWS SDK
	// finds: its environment variables, the pod's or the machine's role.
	AccessKeyID         string `yaml:"access_key_id"`
	SecretAccessKey     secret `yaml:"secret_access_key"`
	SecretAccessKeyFile string `yaml:"secret_access_key_file"`
	SecretAccessKeyEnv  string `yaml:"secret_access_key_env"`
	// Role is the ARN of a role to assume, with ExternalID if it wants one.
	Role       string `yaml:"role"`
	ExternalID string `yaml:"external_id"`
	// Endpoint is the URL of the ECR API, for a VPC endpoint. Default: AWS's.
	Endpoint string `yaml:"endpoint"`
}

func (e ECR) secretAccessKey() secretSource {
	return secretSource{e.SecretAccessKey, e.SecretAccessKeyFile, e.SecretAccessKeyEnv}
}

// GAR is Google Artifact Registry, and what is left of Container Registry.
type GAR struct {
	// Registries default to ["*.pkg.dev", "gcr.io", "*.gcr.io"].
	Registries []string `yaml:"registries"`
	// KeyFile is a service account's key in JSON. Default: what Google's library
	// finds: GOOGLE_APPLICATION_CREDENTIALS, workload identity, the machine's
	// service account.
	KeyFile string `yaml:"key_file"`
}

// ACR is Azure Container Registry.
type ACR struct {
	// Registries default to ["*.azurecr.io"].
	Registries []string `yaml:"registries"`
	// Tenant, ClientID and its secret are those of a service principal. ClientID
	// alone is a user-assigned managed identity. Default: what the Azure SDK finds:
	// workload identity, the machine's managed identity.
	Tenant           string `yaml:"tenant"`
	ClientID         string `yaml:"client_id"`
	ClientSecret     secret `yaml:"client_secret"`
	ClientSecretFile string `yaml:"client_secret_file"`
	ClientSecretEnv  string `yaml:"client_secret_env"`
}

func (a ACR) clientSecret() secretSource {
	return secretSource{a.ClientSecret, a.ClientSecretFile, a.ClientSecretEnv}
}

func (c Clouds) validate(p *problems) {
	for i, e := range c.ECR {
		key := fmt.Sprintf("clouds.ecr[%d]", i)
		p.patterns(key+".registries", e.Registries)
		p.secret(key+".secret_access_key", e.secretAccessKey())
		if (e.AccessKeyID == "") == e.secretAccessKey().given() {
			p.add(key+".access_key_id", e.AccessKeyID, "give both the id and the secret of the key, or neither")
		}
		if e.ExternalID != "" && e.Role == "" {
			p.add(key+".external_id", e.ExternalID, "is for a role, and none is given")
		}
		if e.Endpoint != "" {
			p.url(key+".endpoint", e.Endpoint)
		}
	}
	for i, g := range c.GAR {
		key := fmt.Sprintf("clouds.gar[%d]", i)
		p.patterns(key+".registries", g.Registries)
		p.readable(key+".key_file", g.KeyFile)
	}
	for i, a := range c.ACR {
		key := fmt.Sprintf("clouds.acr[%d]", i)
		p.patterns(key+".registries", a.Registries)
		p.secret(key+".client_secret", a.clientSecret())
		if a.clientSecret().given() && (a.Tenant == "" || a.ClientID == "") {
			p.add(key+".client_id", a.ClientID, "a client secret needs tenant and client_id")
		}
	}
}

// patterns reports what is no pattern of repositories.
func (p *problems) patterns(key string, texts []string) {
	for i, text := range texts {
		if _, err := auth.ParsePattern(text); err != nil {
			p.add(fmt.Sprintf("%s[%d]", key, i), text, err.Error())
		}
	}
}

// prefix reports what is neither a registry nor a registry and a path.
func (p *problems) prefix(key, name string) {
	host, path, hasPath := strings.Cut(name, "/")
	if !isRegistryHost(host) || hasPath && !isRepository(path) {
		p.add(key, name, `want a host as image names have it, "docker.io" or "registry.local:5000", and a path below it or none`)
	}
}
