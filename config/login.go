package config

import (
	"maps"
	"slices"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// Login is a user with a password, or an identity token, each given as it is,
// in a file, or in an environment variable, so that the secrets of containers
// can be mounted or set. Files are read again when they change.
type Login struct {
	// Username logs in to the registry; it needs one of the passwords. Default:
	// anonymous.
	Username string `yaml:"username"`
	// Password of the user, or an access token.
	Password Secret `yaml:"password"`
	// PasswordFile holds the password. A line break at its end is not part of it.
	PasswordFile string `yaml:"password_file"`
	// PasswordEnv is the environment variable that holds the password.
	PasswordEnv string `yaml:"password_env"`
	// IdentityToken logs in at the registry's authorization service, in place of a
	// user and password.
	IdentityToken Secret `yaml:"identity_token"`
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

// Credential returns what logs in, or the zero Credential for no login. source
// names its place in the configuration. Errors do not contain the secret.
func (l Login) Credential(source string) (auth.Credential, error) {
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

func (l Login) check(key string, k checker) {
	password, token := l.password().given(), l.identityToken().given()
	switch {
	case password && token:
		k.add(key+".identity_token", l.IdentityToken, "give either a password or an identity token")
	case password && l.Username == "":
		k.add(key+".username", Secret(l.Username), "a password needs a username")
	case !password && !token && l.Username != "":
		k.add(key+".username", Secret(l.Username), "a username needs a password, password_file or password_env")
	}
	k.secret(key+".password", l.password())
	k.secret(key+".identity_token", l.identityToken())
}

// CredentialSet is a set of logins for the callers that name it.
type CredentialSet struct {
	// Registries are logins by registry or registry and path, as in registries.
	Registries map[string]Login `yaml:"registries"`
	// DockerConfig is the path of a Docker config.json that has the logins for the
	// others. Default: none.
	DockerConfig string `yaml:"docker_config"`
}

func (s CredentialSet) check(key string, k checker) {
	for _, name := range slices.Sorted(maps.Keys(s.Registries)) {
		k.prefix(key+".registries", name)
		s.Registries[name].check(key+".registries."+yamlstrict.HideUser(name), k)
	}
	k.readable(key+".docker_config", s.DockerConfig)
}
