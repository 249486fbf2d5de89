package config

import (
	"maps"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// Registry says how to reach and log in to one registry.
type Registry struct {
	// URL is where the registry is, if not at https://<host>, without a path. A
	// local mirror stands in for Docker Hub that way. Default: https://<host>;
	// for docker.io, Docker Hub's API host.
	URL URL `yaml:"url"`
	// PlainHTTP reaches the registry over HTTP, without TLS. Default: false.
	PlainHTTP bool `yaml:"plain_http"`
	// CA is a PEM file of certificates to trust for this registry, besides the
	// system's. Default: none.
	CA string `yaml:"ca"`
	// ClientCert is a PEM file: the certificate that is shown to this registry, then its
	// intermediates. Default: none.
	ClientCert string `yaml:"client_cert"`
	// ClientKey is a PEM file: the private key of client_cert.
	ClientKey string `yaml:"client_key"`
	// Proxy is the way to this registry, as upstreams.proxy.url. Its token service and
	// its storage, if they are other hosts, have their own way. The login of
	// upstreams.proxy is for the same URL alone. Default: upstreams.proxy.
	Proxy ProxyURL `yaml:"proxy"`
	// Blobs is redirect or stream, as upstreams.blobs. Default: upstreams.blobs.
	Blobs Delivery `yaml:"blobs"`
	// Files says that paths of the host outside /v2 hold files that every caller may
	// name as layers, even a caller that may not read the whole registry
	// (upstreams.allow, upstreams.deny, api.identities). Default: false.
	Files bool `yaml:"files"`
	// Alias is another name for the registry, without a port, in image names under
	// a recipe's name, which can have no port. Default: none.
	Alias string `yaml:"alias"`
	Login `yaml:",inline"`
}

func (r Registry) check(name string, k checker) {
	key := "registries." + yamlstrict.HideUser(name)
	if strings.Contains(name, "/") && (r.way() || r.Blobs != "" || r.Files || r.Alias != "") {
		k.add(key, name, "has a path and so takes credentials only: how to reach the registry is said for its host")
	}
	if r.URL.Scheme == "https" && r.PlainHTTP {
		k.add(key+".plain_http", r.PlainHTTP, "contradicts url, which begins with https")
	}
	r.checkWay(key, k)
	r.Login.check(key, k)
}

// checkAliases makes sure that a name under a recipe means one registry.
func (c *Config) checkAliases(k checker) {
	taken := map[string]string{}
	for name := range c.Registries {
		host, _, _ := strings.Cut(name, "/")
		taken[host] = "is the name of another registry"
	}
	for _, hub := range auth.DockerHubNames() {
		taken[hub] = "is a name of Docker Hub"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Registries)) {
		alias, key := c.Registries[name].Alias, "registries."+yamlstrict.HideUser(name)+".alias"
		switch {
		case alias == "":
			continue
		case !IsRegistryHost(alias) || strings.Contains(alias, ":") || alias != strings.ToLower(alias):
			k.add(key, alias, "want a host as image names have it, without a port: registry.local")
		case taken[alias] != "":
			k.add(key, alias, taken[alias])
		}
		taken[alias] = "is the alias of another registry, too"
	}
}
