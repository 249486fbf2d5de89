package config

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

const envPrefix = "WAVEPROXY_"

// foreignEnv are variables that are not keys: the commands and tests use some, and
// Kubernetes sets the others in every pod beside a Service named waveproxy.
var foreignEnv = regexp.MustCompile(`^WAVEPROXY_(SERVER|LOGIN|CONFIG|FUSION_RELEASES|REQUIRE_ENGINES)=` +
	`|_SERVICE_HOST=|_SERVICE_PORT(_[A-Z0-9_]+)?=[0-9]+$` +
	`|_PORT(_[0-9]+_(TCP|UDP|SCTP))?=(tcp|udp|sctp)://|_PORT_[0-9]+_(TCP|UDP|SCTP)_(ADDR|PORT|PROTO)=`)

func isForeign(name, value string) bool { return foreignEnv.MatchString(name + "=" + value) }

// Load returns the configuration in force: the defaults, overridden by the YAML
// file at path, if one is given, overridden by environ, which has the form of
// os.Environ. The error lists all problems, one a line, with their place and key.
// Neither it nor the printed Config contains a secret.
func Load(path string, environ []string) (*Config, error) {
	env := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	c := Defaults()
	var d yamlstrict.Decoder
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		d.Decode(path, text, c)
	}
	d.Environment(envPrefix, env, isForeign, c)
	k := checker{&d}
	c.normalize(k)
	c.check(k)
	if err := d.Err(); err != nil {
		return nil, err
	}
	return c, nil
}

// normalize completes values that depend on other keys, and gives Docker Hub's two
// names one form.
func (c *Config) normalize(k checker) {
	if c.HTTP.Host == (URL{}) {
		c.HTTP.Host = defaultHost(string(c.HTTP.Addr), c.HTTP.TLS.Certificate != "")
	}
	if c.Cache.Dir == "" && c.Cache.Size > 0 {
		c.Cache.Dir = filepath.Join(c.Storage.Dir, "cache")
	}
	if c.Registry.Auth == PullBasic && c.Registry.Htpasswd == "" {
		c.Registry.Htpasswd = c.API.Htpasswd
	}
	for name, i := range c.API.Identities {
		if i.Credentials == nil {
			i.Credentials = []string{Shared} // spelled out, because an empty list means anonymous
			c.API.Identities[name] = i
		}
	}
	for name, r := range c.Registries {
		// The default port of https is no part of the spelling, and over http not the default.
		if r.PlainHTTP && r.URL == (URL{}) && strings.HasSuffix(name, ":443") {
			r.URL = URL{"http", name}
			c.Registries[name] = r
		}
	}
	spellHosts(c.Registries, "registries", k)
	for name, set := range c.Credentials {
		spellHosts(set.Registries, "credentials."+name+".registries", k)
	}
}

// spellHosts gives registries the spelling that image names get (auth.RegistryHost).
func spellHosts[T any](byPrefix map[string]T, key string, k checker) {
	for _, name := range slices.Sorted(maps.Keys(byPrefix)) {
		host, _, _ := strings.Cut(name, "/")
		plain, err := auth.RegistryHost(host)
		if err != nil || plain == host || strings.HasSuffix(host, ":") {
			continue // check reports what is no host, "https:" of a URL among it
		}
		plain += strings.TrimPrefix(name, host)
		if _, both := byPrefix[plain]; both {
			k.name(key, name, "is the same as "+plain+", which is given too")
		}
		byPrefix[plain] = byPrefix[name]
		delete(byPrefix, name)
	}
}

// BaseURL returns http.host or, where that had to wait for the port, its default
// for a server that listens on addr.
func (c *Config) BaseURL(addr net.Addr) URL {
	if c.HTTP.Host != (URL{}) {
		return c.HTTP.Host
	}
	return defaultHost(addr.String(), c.HTTP.TLS.Certificate != "")
}

// defaultHost returns the http.host of a server that listens on addr, or the zero
// URL as long as the port is not known.
func defaultHost(addr string, tls bool) URL {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" || !isPort(port) {
		return URL{}
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return URL{scheme, net.JoinHostPort(host, port)}
}

// Differences returns the keys of the sections that differ between two
// configurations, sorted.
func Differences(a, b *Config) []string {
	var names []string
	others := yamlstrict.Fields(reflect.ValueOf(b).Elem())
	for name, v := range yamlstrict.Fields(reflect.ValueOf(a).Elem()) {
		if !reflect.DeepEqual(v.Interface(), others[name].Interface()) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}
