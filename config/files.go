package config

import (
	"maps"
	"slices"
	"strings"
)

// Files are the files that a running server reads again when they change, by what
// they are for. A file can be in several lists.
type Files struct {
	Logins  []string // of registries
	Trust   []string // certificates and proxies on the way to registries
	Callers []string // of the API
	Keys    []string // of tokens
}

// Files returns the files that the configuration names. The certificate of the server,
// the files of users and the secret of a bucket are not among them: they are looked at
// when they are used.
func (c *Config) Files() Files {
	var f Files
	login := func(l Login) { f.Logins = append(f.Logins, l.PasswordFile, l.IdentityTokenFile) }
	f.Trust = []string{c.Upstreams.CA, c.Upstreams.Proxy.CA, c.Upstreams.Proxy.PasswordFile}
	for _, name := range slices.Sorted(maps.Keys(c.Registries)) {
		r := c.Registries[name]
		login(r.Login)
		f.Trust = append(f.Trust, r.CA, r.ClientCert, r.ClientKey)
	}
	f.Logins = append(f.Logins, c.DockerConfig, c.Upstreams.Proxy.PasswordFile) // logins of clouds go through the proxy
	for _, name := range slices.Sorted(maps.Keys(c.Credentials)) {
		set := c.Credentials[name]
		f.Logins = append(f.Logins, set.DockerConfig)
		for _, registry := range slices.Sorted(maps.Keys(set.Registries)) {
			login(set.Registries[registry])
		}
	}
	for _, e := range c.Clouds.ECR {
		f.Logins = append(f.Logins, e.SecretAccessKeyFile)
	}
	for _, g := range c.Clouds.GAR {
		f.Logins = append(f.Logins, g.KeyFile)
	}
	for _, a := range c.Clouds.ACR {
		f.Logins = append(f.Logins, a.ClientSecretFile)
	}
	if c.API.OIDC.Issuer != "" { // the issuer is reached through the proxy
		f.Callers = append(f.Callers, c.API.OIDC.CA, c.Upstreams.CA, c.Upstreams.Proxy.CA, c.Upstreams.Proxy.PasswordFile)
	}
	for _, name := range slices.Sorted(maps.Keys(c.API.Tokens)) {
		f.Callers = append(f.Callers, c.API.Tokens[name].TokenFile)
	}
	for _, k := range c.Tokens.Keys {
		f.Keys = append(f.Keys, k.File)
	}
	for _, list := range []*[]string{&f.Logins, &f.Trust, &f.Callers, &f.Keys} {
		slices.Sort(*list)
		*list = slices.DeleteFunc(slices.Compact(*list), func(path string) bool { return path == "" })
	}
	return f
}

// WithRenewed returns the configuration that a server is in that began with c and has
// taken from changed what needs no restart: recipes, logins, certificates and proxies
// on the way out, callers and their policies, keys. Other sections are those of c.
func (c *Config) WithRenewed(changed *Config) *Config {
	n := *c
	n.Recipes, n.Credentials, n.DockerConfig, n.Clouds = changed.Recipes, changed.Credentials, changed.DockerConfig, changed.Clouds
	n.Tokens.Keys = changed.Tokens.Keys
	n.Upstreams.CA, n.Upstreams.Proxy = changed.Upstreams.CA, changed.Upstreams.Proxy
	n.API.Identities = changed.API.Identities
	if c.API.Auth == changed.API.Auth {
		n.API.Tokens, n.API.OIDC = changed.API.Tokens, changed.API.OIDC
	}
	if len(c.API.Admins) > 0 && len(changed.API.Admins) > 0 {
		n.API.Admins = changed.API.Admins
	}
	n.Registries = map[string]Registry{}
	for name, r := range c.Registries {
		now, still := changed.Registries[name]
		switch {
		case still:
			r.Login, r.CA, r.ClientCert, r.ClientKey, r.Proxy = now.Login, now.CA, now.ClientCert, now.ClientKey, now.Proxy
		case needsRestart(name):
			r.Login = Login{} // only its login is gone
		default:
			continue
		}
		n.Registries[name] = r
	}
	for name, r := range changed.Registries {
		if _, known := n.Registries[name]; !known && !needsRestart(name) {
			n.Registries[name] = r
		}
	}
	return &n
}

// needsRestart reports whether a name of registries is a host, and with it an address
// that may be private, and no path that has a login alone.
func needsRestart(name string) bool { return !strings.Contains(name, "/") }
