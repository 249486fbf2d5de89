package config

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/distribution/reference"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// check reports every value that contradicts another or is out of bounds, and
// every named file that cannot be read. The types have judged each value alone.
func (c *Config) check(k checker) {
	c.checkHTTP(k)
	if c.Storage.Dir == "" {
		k.add("storage.dir", c.Storage.Dir, "want a directory")
	}
	if c.Storage.Reserve < 0 {
		k.add("storage.reserve", c.Storage.Reserve, "want 0 or more")
	}
	if c.Storage.Retention < 48*time.Hour {
		k.add("storage.retention", c.Storage.Retention, "want a duration of 48h or more")
	}
	c.checkBucket(k)
	// A year from now is long before late 2051, the last expiry a token can hold.
	if c.Tokens.TTL < time.Minute || c.Tokens.TTL > 365*24*time.Hour {
		k.add("tokens.ttl", c.Tokens.TTL, "want a duration from 1m to 8760h")
	}
	for i, key := range c.Tokens.Keys {
		key.check(fmt.Sprintf("tokens.keys[%d]", i), k)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Registries)) {
		k.prefix("registries", name)
		c.Registries[name].check(name, k)
	}
	c.checkAliases(k)
	c.checkRecipes(k)
	k.readable("docker_config", c.DockerConfig)
	c.Clouds.check(k)
	for _, name := range slices.Sorted(maps.Keys(c.Credentials)) {
		if name == Shared {
			k.name("credentials", name, "is the name of the logins in registries, docker_config and clouds")
		}
		c.Credentials[name].check("credentials."+name, k)
	}
	if c.Upstreams.Blobs == "" {
		k.add("upstreams.blobs", c.Upstreams.Blobs, "want one of "+list(deliveries))
	}
	k.atLeastSecond("upstreams.stall_timeout", c.Upstreams.StallTimeout)
	k.readable("upstreams.ca", c.Upstreams.CA)
	c.Upstreams.Proxy.check("upstreams.proxy", k)
	if c.Cache.Size < 0 {
		k.add("cache.size", c.Cache.Size, "want a size, or 0 for none")
	}
	c.API.check(c, k)
	c.Registry.check(k)
	if c.Layers.MaxSize < 1<<10 {
		k.add("layers.max_size", c.Layers.MaxSize, "want at least 1KiB")
	}
	c.Limits.check(k)
}

func (c *Config) checkHTTP(k checker) {
	if c.HTTP.Addr == "" {
		k.add("http.addr", c.HTTP.Addr, wantAddr)
	}
	if host := c.HTTP.Host.Host; host != "" && !IsRegistryHost(host) {
		k.add("http.host", c.HTTP.Host, "image names cannot begin with this host: it needs a dot or a port, or to be localhost")
	}
	if tls := c.HTTP.TLS; (tls.Certificate == "") != (tls.Key == "") {
		k.add("http.tls", Secret(tls.Certificate+tls.Key), "give both certificate and key, or none")
	}
	k.readable("http.tls.certificate", c.HTTP.TLS.Certificate)
	k.readable("http.tls.key", c.HTTP.TLS.Key)
	k.atLeastSecond("http.stall_timeout", c.HTTP.StallTimeout)
	if c.HTTP.DrainDelay < 0 {
		k.add("http.drain_delay", c.HTTP.DrainDelay, "want 0s or more")
	}
	k.atLeastSecond("http.draintimeout", c.HTTP.DrainTimeout)
}

func (t TokenKey) check(key string, k checker) {
	if (t.File == "") == (t.Key == "") {
		k.add(key, Secret(t.File), "give either file or key")
		return
	}
	_, err := t.parse()
	if err != nil && t.File != "" {
		k.add(key+".file", Secret(t.File), cause(err))
	} else if err != nil {
		k.add(key+".key", t.Key, err.Error())
	}
}

func (p Pulling) check(k checker) {
	k.readable("registry.htpasswd", p.Htpasswd)
	if p.Auth == PullNone && p.Htpasswd != "" && !k.Failed("registry.auth") {
		k.add("registry.auth", p.Auth, "pulls take no login, though registry.htpasswd is given")
	}
	if p.Auth == PullBasic && p.Htpasswd == "" {
		k.add("registry.htpasswd", "", "registry.auth basic needs a file of users")
	}
}

// IsRegistryHost reports whether an image name that begins with host and a slash
// names an image at that host, and not one of a Docker Hub user.
func IsRegistryHost(host string) bool {
	named, err := reference.ParseNormalizedNamed(host + "/name")
	if err != nil || reference.Domain(named) != host {
		return false
	}
	_, err = auth.RegistryHost(host)
	return err == nil
}

// isRepository reports whether a path can be below a registry's host.
func isRepository(path string) bool {
	named, err := reference.ParseNormalizedNamed("registry.local/" + path)
	return err == nil && reference.IsNameOnly(named) && reference.Path(named) == path
}

// checker reports problems of values that were understood. What depends on a value
// that was not is left out, because it would only repeat it in other words.
type checker struct{ *yamlstrict.Decoder }

// add reports the value of a key.
func (k checker) add(key string, value any, reason string) { k.report(key, key, value, reason) }

// name reports a name in a map.
func (k checker) name(key, name, reason string) {
	k.report(key+"."+yamlstrict.HideUser(name), key, name, reason)
}

func (k checker) report(at, key string, value any, reason string) {
	if !k.Unreliable(at) {
		k.Add(at, key, fmt.Sprintf("%q: %s", yamlstrict.HideUser(fmt.Sprint(value)), reason))
	}
}

func (k checker) atLeastSecond(key string, d time.Duration) {
	if d < time.Second {
		k.add(key, d, "want at least 1s")
	}
}

func (k checker) readable(key, path string) {
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		if strings.HasSuffix(key, "_file") || strings.HasSuffix(key, ".key") || strings.HasSuffix(key, "_key") {
			path = Secret(path).String() // of a secret, which people put there itself
		}
		k.add(key, shownPath(path), cause(err))
		return
	}
	f.Close()
}

// secret reports a secret that cannot be read, under the key of the way it is
// given.
func (k checker) secret(key string, s secretSource) {
	if _, err := s.readGiven(); err != nil {
		switch {
		case s.file != "":
			k.add(key+"_file", Secret(s.file), err.Error()) // people put the secret itself there
		case s.env != "":
			k.add(key+"_env", Secret(s.env), err.Error())
		}
	}
}

// prefix reports a name that is neither a registry nor a registry and a path.
func (k checker) prefix(key, name string) {
	host, path, hasPath := strings.Cut(name, "/")
	if !IsRegistryHost(host) || hasPath && !isRepository(path) {
		k.name(key, name, `want a host as image names have it, "docker.io" or "registry.local:5000", and a path below it or none`)
	}
}

// known reports names that credentials does not have.
func (c *Config) known(key string, names []string, k checker) {
	for _, name := range names {
		if _, known := c.Credentials[name]; !known && name != Shared {
			k.add(key, name, "no such name in credentials")
		}
	}
}

// reserved reports whether an identity is one that the server gives to a recipe.
func reserved(identity string) bool {
	_, recipe := auth.RecipeOf(identity)
	return recipe
}

// shownPath returns a path for a message, or *** if people may have put the content
// of the file there.
func shownPath(path string) string {
	if strings.ContainsAny(path, "{}\"\n:$ =") || len(path) > 256 {
		return "***"
	}
	return path
}
