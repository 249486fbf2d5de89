package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/waveproxy/waveproxy/auth"
)

// validate reports every value that cannot work, and every file named that
// cannot be read.
func (c *Config) validate() error {
	var p problems
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "text", "json")
	p.addr("http.addr", c.HTTP.Addr)
	if c.HTTP.Debug.Addr != "" {
		p.addr("http.debug.addr", c.HTTP.Debug.Addr)
	}
	if c.HTTP.Host != "" {
		u := p.url("http.host", c.HTTP.Host)
		if u != nil && !isRegistryHost(u.Host) {
			p.add("http.host", c.HTTP.Host, "image names cannot begin with this host: it needs a dot or a port, or to be localhost")
		}
	}
	if tls := c.HTTP.TLS; (tls.Certificate == "") != (tls.Key == "") {
		p.add("http.tls", tls.Certificate+tls.Key, "give both certificate and key, or none")
	}
	p.readable("http.tls.certificate", c.HTTP.TLS.Certificate)
	p.readable("http.tls.key", c.HTTP.TLS.Key)
	if c.Storage.Dir == "" {
		p.add("storage.dir", c.Storage.Dir, "want a directory")
	}
	// A year from now is long before late 2051, the last expiry a token can hold.
	if c.Tokens.TTL < time.Minute || c.Tokens.TTL > 365*24*time.Hour {
		p.add("tokens.ttl", c.Tokens.TTL, "want a duration from 1m to 8760h")
	}
	for i, k := range c.Tokens.Keys {
		k.validate(fmt.Sprintf("tokens.keys[%d]", i), &p)
	}
	p.atLeastSecond("http.stall_timeout", c.HTTP.StallTimeout)
	p.atLeastSecond("http.draintimeout", c.HTTP.DrainTimeout)
	for i, text := range c.HTTP.Proxies {
		if _, err := parseNetwork(text); err != nil {
			p.add(fmt.Sprintf("http.proxies[%d]", i), text, "want an address or a network such as 10.0.0.0/8")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Registries)) {
		p.prefix("registries", name)
		c.Registries[name].validate(name, &p)
	}
	c.validateAliases(&p)
	c.validateRecipes(&p)
	p.readable("docker_config", c.DockerConfig)
	c.Clouds.validate(&p)
	for _, name := range slices.Sorted(maps.Keys(c.Credentials)) {
		if name == shared {
			p.add("credentials", name, "is the name of what registries, docker_config and clouds have")
		}
		c.Credentials[name].validate("credentials."+name, &p)
	}
	p.oneOf("upstreams.blobs", c.Upstreams.Blobs, "redirect", "stream")
	p.atLeastSecond("upstreams.stall_timeout", c.Upstreams.StallTimeout)
	p.patterns("upstreams.allow", c.Upstreams.Allow)
	p.patterns("upstreams.deny", c.Upstreams.Deny)
	if c.Cache.Size < 0 {
		p.add("cache.size", c.Cache.Size, "want a size, or 0 for none")
	}
	c.API.validate(c, &p)
	p.oneOf("registry.auth", c.Registry.Auth, "none", "basic")
	p.readable("registry.htpasswd", c.Registry.Htpasswd)
	if c.Registry.Auth == "none" && c.Registry.Htpasswd != "" {
		p.add("registry.auth", c.Registry.Auth, "nobody has to log in, though registry.htpasswd is given")
	}
	if c.Registry.Auth == "basic" && c.Registry.Htpasswd == "" {
		p.add("registry.htpasswd", "", "registry.auth basic needs a file of users")
	}
	if c.Layers.MaxSize < 1<<10 {
		p.add("layers.max_size", c.Layers.MaxSize, "want at least 1KiB")
	}
	if c.Limits.Layers < 1 {
		p.add("limits.layers", c.Limits.Layers, "want at least 1")
	}
	if c.Limits.Upstream < 1 {
		p.add("limits.upstream", c.Limits.Upstream, "want at least 1")
	}
	return p.err()
}

func (k TokenKey) validate(key string, p *problems) {
	if (k.File == "") == (k.Key == "") {
		p.add(key, k.File, "give either file or key")
		return
	}
	_, err := k.parse()
	if err != nil && k.File != "" {
		p.add(key+".file", k.File, cause(err))
	} else if err != nil {
		p.add(key+".key", k.Key, err.Error())
	}
}

// parse reads the key, wherever it is given.
func (k TokenKey) parse() (auth.Key, error) {
	text := []byte(k.Key)
	if k.File != "" {
		var err error
		if text, err = readSecret(k.File); err != nil {
			return auth.Key{}, err
		}
	}
	return auth.ParseKey(text)
}

func (r Registry) validate(name string, p *problems) {
	key := "registries." + withoutUser(name)
	if strings.Contains(name, "/") && (r.URL != "" || r.PlainHTTP || r.CA != "" || r.Blobs != "" || r.Alias != "") {
		p.add(key, name, "has a path and so takes credentials only: how to reach the registry is said for its host")
	}
	if r.URL != "" {
		if u := p.url(key+".url", r.URL); u != nil && u.Scheme == "https" && r.PlainHTTP {
			p.add(key+".plain_http", r.PlainHTTP, "contradicts url, which begins with https")
		}
	}
	p.readable(key+".ca", r.CA)
	if r.Blobs != "" {
		p.oneOf(key+".blobs", r.Blobs, "redirect", "stream")
	}
	r.Login.validate(key, p)
}

func readSecret(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, 64<<10))
}

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// isRegistryHost tells whether an image name that begins with host and a slash
// names an image at that host, and not one of a Docker Hub user.
func isRegistryHost(host string) bool {
	named, err := reference.ParseNormalizedNamed(host + "/name")
	return err == nil && reference.Domain(named) == host
}

// isRepository tells whether a path can be below a registry's host.
func isRepository(path string) bool {
	named, err := reference.ParseNormalizedNamed("registry.local/" + path)
	return err == nil && reference.IsNameOnly(named) && reference.Path(named) == path
}

// parseNetwork reads an address as the network of it alone.
func parseNetwork(text string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(text); err == nil {
		return a.Prefix(a.BitLen())
	}
	return netip.ParsePrefix(text)
}

// problems are what is wrong with a configuration, one error for each key.
type problems []error

func (p *problems) err() error { return errors.Join(*p...) }

func (p *problems) add(key string, value any, reason string) {
	*p = append(*p, fmt.Errorf("%s: %q: %s", key, withoutUser(fmt.Sprint(value)), reason))
}

func (p *problems) oneOf(key, value string, want ...string) {
	if !slices.Contains(want, value) {
		p.add(key, value, "want one of "+strings.Join(want, ", "))
	}
}

func (p *problems) atLeastSecond(key string, d time.Duration) {
	if d < time.Second {
		p.add(key, d, "want at least 1s")
	}
}

func (p *problems) addr(key, value string) {
	if _, port, err := net.SplitHostPort(value); err != nil || !isPort(port) {
		p.add(key, value, "want host:port or :port, with a port from 0 to 65535")
	}
}

// url returns nil for what is not a plain base URL.
func (p *problems) url(key, value string) *url.URL {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		p.add(key, value, "want https://host or http://host:port, without user, path or query")
		return nil
	}
	return u
}

func (p *problems) readable(key, path string) {
	if path == "" {
		return
	}
	f, err := os.Open(path)
	if err != nil {
		p.add(key, path, cause(err))
		return
	}
	f.Close()
}

// cause leaves out the path, which the caller tells.
func cause(err error) string {
	if p := (*fs.PathError)(nil); errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// withoutUser hides the user and password of a URL or host, where people put
// them by mistake.
func withoutUser(s string) string {
	if i := strings.LastIndex(s, "@"); i >= 0 {
		return "***" + s[i:]
	}
	return s
}
