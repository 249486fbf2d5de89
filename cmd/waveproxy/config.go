package main

import (
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// Config is the configuration file; the comments of its fields are the
// reference. Every key is optional. A key without a value keeps its default.
//
// The environment overrides the file: http.addr is WAVEPROXY_HTTP_ADDR,
// storage.dir is WAVEPROXY_STORAGE_DIR, and so on. Lists and maps are given
// whole, as YAML or JSON: WAVEPROXY_REGISTRIES='{"quay.io": {"ca": "ca.pem"}}'.
// An empty variable counts as not set.
type Config struct {
	Log struct {
		// Level is the least severity logged: debug, info, warn or error. Default: info.
		Level string `yaml:"level"`
		// Format is text, for people, or json, for machines. Default: text.
		Format string `yaml:"format"`
	} `yaml:"log"`

	HTTP struct {
		// Addr is the TCP address to listen on, as host:port. Without a host, all
		// addresses of the machine; port 0 takes a free one. Default: ":9090".
		Addr string `yaml:"addr"`
		// Host is the URL that clients are told to pull from: https://wave.example.org,
		// http://10.0.0.7:9090. It has no path. Default: http://localhost:<port of
		// addr>, with https if a certificate is given, and with the host of addr if
		// that is not a loopback address. With port 0 it is left empty until the
		// server listens.
		Host string `yaml:"host"`
		// TLS makes the server speak HTTPS. Both files or none. Default: none.
		TLS struct {
			// Certificate is a PEM file: the certificate, then its intermediates.
			Certificate string `yaml:"certificate"`
			// Key is a PEM file: the private key of the certificate. Both files are read
			// again when they change.
			Key string `yaml:"key"`
		} `yaml:"tls"`
		// HTTP2 is offered to TLS clients besides HTTP/1.1, if not disabled. For large
		// blobs it costs about 1.7 times the processor time, and no container engine
		// gains from it. Default: disabled.
		HTTP2 struct {
			Disabled bool `yaml:"disabled"`
		} `yaml:"http2"`
		// StallTimeout is how long a client may take nothing of an answer before its
		// connection is cut, at least 1s. Default: 2m.
		StallTimeout time.Duration `yaml:"stall_timeout"`
		// DrainTimeout is how long running pulls may go on after SIGTERM. Default: 30s.
		DrainTimeout time.Duration `yaml:"draintimeout"`
		// Debug is a second listener, for the operator alone.
		Debug struct {
			// Addr is the TCP address that answers /metrics, for Prometheus, and
			// /debug/pprof/. Default: none; nothing listens.
			Addr string `yaml:"addr"`
		} `yaml:"debug"`
		// Proxies are the addresses (10.0.0.7) and networks (10.0.0.0/8) of reverse
		// proxies in front of this server. Their X-Forwarded-For says who the client
		// is; nobody else's does. Default: none.
		Proxies []string `yaml:"proxies"`
	} `yaml:"http"`

	Storage struct {
		// Dir is the directory for injected layers, grants and the generated key. It
		// is made if it does not exist. Default: ./waveproxy-data.
		Dir string `yaml:"dir"`
	} `yaml:"storage"`

	Tokens struct {
		// TTL is the lifetime of tokens for which none is asked, and the longest that
		// can be asked. From 1m to 8760h (a year). Default: 36h.
		TTL time.Duration `yaml:"ttl"`
		// Keys verify tokens; the first one also signs. To rotate, put the new key
		// first and drop the old one when its last token has expired. Servers that
		// share a storage need the same keys. Default: one key, generated in
		// storage.dir at the first start.
		Keys []TokenKey `yaml:"keys"`
	} `yaml:"tokens"`

	// Registries says how to reach and log in to registries, by the host that image
	// names have: "docker.io", "quay.io", "registry.local:5000". A path behind the
	// host, "quay.io/team", gives other credentials for the repositories below it;
	// the longest path counts. Listed hosts may be at private addresses; all others
	// must be at public ones. Credentials given here serve everybody who may ask for
	// a token, unless api.identities says otherwise. Default: none; every public
	// registry is reached over HTTPS and pulled from anonymously.
	Registries map[string]Registry `yaml:"registries"`

	// Recipes are what images get added that are pulled as
	// <host>/wt/<name>/<image>, by anyone who can reach this server: at most 32 of
	// a-z and 0-9, with . _ or - between them. All that they refer to is read at
	// the start, and with SIGHUP, which applies this section anew; when one is bad,
	// all stay as they were. Default: none.
	Recipes map[string]Recipe `yaml:"recipes"`

	// DockerConfig is the path of a Docker config.json, whose credentials and
	// credential helpers are used for registries without credentials of their own
	// in registries: ~/.docker/config.json, say, spelled out. They, too, serve
	// everybody who may ask for a token, which is why nothing is read unless it
	// is named. Default: none.
	DockerConfig string `yaml:"docker_config"`

	// Clouds logs in to the registries of cloud providers with what the machine or
	// pod is, or with keys, when neither registries nor docker_config has a
	// credential. These, too, serve everybody. Default: none.
	Clouds Clouds `yaml:"clouds"`

	// Credentials are further sets of logins, by a name that
	// api.identities.<name>.credentials uses. Default: none.
	Credentials map[string]CredentialSet `yaml:"credentials"`

	// Upstreams says which images may be used at all: those of allow, or of every
	// registry if that is empty, without those of deny. Patterns are a registry
	// ("quay.io"), or a registry and a path ("docker.io/library/*"); * stands for
	// anything but the slash behind the registry. Default: any public registry.
	Upstreams struct {
		Allow []string `yaml:"allow"`
		Deny  []string `yaml:"deny"`
		// Blobs is how untouched blobs reach clients, unless registries says otherwise:
		// stream, through this server, or redirect, to where the registry redirects, if
		// it does. Redirects save this server all the bytes, but clients tell the other
		// place where they come from (Referer), with the token in the image's name, so
		// that must be a place that may know it. Default: stream.
		Blobs string `yaml:"blobs"`
		// StallTimeout is how long a registry may send nothing of a blob before the
		// rest is asked for anew, at least 1s. Default: 1m.
		StallTimeout time.Duration `yaml:"stall_timeout"`
	} `yaml:"upstreams"`

	Cache struct {
		// Size is how much of untouched blobs is kept on disk, least recently used
		// evicted; 0 keeps none. With it every blob comes through this server.
		// Default: 0.
		Size size `yaml:"size"`
		// Dir is the directory for them, of one server alone. Default: "cache" in
		// storage.dir.
		Dir string `yaml:"dir"`
	} `yaml:"cache"`

	API API `yaml:"api"`

	Registry struct {
		// Auth is what pulling takes besides the token in the image's name: none, or
		// basic, the login that "docker login" stores. Default: none.
		Auth string `yaml:"auth"`
		// Htpasswd is the file of users for basic, as api.htpasswd has it. Default:
		// api.htpasswd.
		Htpasswd string `yaml:"htpasswd"`
	} `yaml:"registry"`

	Layers struct {
		// MaxSize is the largest layer, compressed, that is fetched from the URL or
		// image a request names, at least 1KiB. Default: 2GiB.
		MaxSize size `yaml:"max_size"`
	} `yaml:"layers"`

	// Limits are counted for each user that logs in, and for each address (IPv6:
	// each /64) otherwise. Who exceeds one gets 429 with Retry-After. 600/m lets
	// 600 pass at once, and ten more each second; 0 is no limit.
	Limits struct {
		// Layers is the largest number of layers an image may have. Above it the
		// injected layers are merged into one. At least 1. Default: 125, the most
		// that Docker's own store takes.
		Layers int `yaml:"layers"`
		// Submits is how many requests the API takes that make it work: images to
		// augment or inspect, logins to check. Default: 600/m.
		Submits ratelimit.Rate `yaml:"submits"`
		// Pulls is how many images may be pulled. All questions about the manifests
		// of one image count once in a minute, blobs never. Default: 6000/m.
		Pulls ratelimit.Rate `yaml:"pulls"`
		// WrongLogins is how many wrong logins an address may send before it is
		// refused unheard, for the API and for pulls. Default: 30/m.
		WrongLogins ratelimit.Rate `yaml:"wrong_logins"`
		// Upstream is how many requests may wait at once for the answer of one
		// upstream host, at least 1; others queue, and repositories take turns. Blobs
		// that are streaming do not count. Default: 64.
		Upstream int `yaml:"upstream"`
	} `yaml:"limits"`
}

// TokenKey is a key that signs tokens: at least 32 random bytes in base64, on
// one line, as "openssl rand -base64 32" prints them. Exactly one field is set.
type TokenKey struct {
	// File holds the key. File modes are not checked, as those of secrets that
	// Kubernetes mounts are wide.
	File string `yaml:"file"`
	// Key is the key itself.
	Key secret `yaml:"key"`
}

// Registry says how to reach and log in to one registry.
type Registry struct {
	// URL is where the registry is, if not at https://<host>, without a path. A
	// local mirror stands in for Docker Hub that way. Default: https://<host>;
	// for docker.io, Docker Hub's API host.
	URL string `yaml:"url"`
	// PlainHTTP reaches the registry over HTTP, without TLS. Default: false.
	PlainHTTP bool `yaml:"plain_http"`
	// CA is a PEM file of certificates to trust for this registry, besides the
	// system's. Default: none.
	CA string `yaml:"ca"`
	// Blobs is redirect or stream, as upstreams.blobs, which is the default.
	Blobs string `yaml:"blobs"`
	// Alias is another name for the registry, without a port, in image names under
	// a recipe's name, which can have no port. Default: none.
	Alias string `yaml:"alias"`
	Login `yaml:",inline"`
}

func defaults() *Config {
	c := &Config{}
	c.Log.Level, c.Log.Format = "info", "text"
	c.HTTP.Addr = ":9090"
	c.Storage.Dir = "./waveproxy-data"
	c.Tokens.TTL = auth.DefaultTTL
	c.API.MaxBody = 32 << 20
	c.Layers.MaxSize = 2 << 30
	c.HTTP.HTTP2.Disabled = true
	c.HTTP.StallTimeout, c.HTTP.DrainTimeout = 2*time.Minute, 30*time.Second
	c.Upstreams.Blobs, c.Upstreams.StallTimeout = "stream", time.Minute
	c.API.Auth, c.Registry.Auth = "none", "none"
	c.Limits.Layers, c.Limits.Upstream = 125, 64
	c.Limits.Submits = ratelimit.Rate{Events: 600, Per: time.Minute}
	c.Limits.Pulls = ratelimit.Rate{Events: 6000, Per: time.Minute}
	c.Limits.WrongLogins = ratelimit.Rate{Events: 30, Per: time.Minute}
	return c
}

// loadConfig returns the configuration in force: the defaults, overridden by
// the YAML file at path, if one is given, overridden by environ, which has the
// form of os.Environ. The error lists all problems, one a line. Neither it nor
// the printed Config contains a secret.
func loadConfig(path string, environ []string) (*Config, error) {
	env := map[string]string{}
	for _, e := range environ {
		name, value, _ := strings.Cut(e, "=")
		env[name] = value
	}
	c := defaults()
	d := &decoder{}
	if path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		d.source = path
		if n := d.parse(text); n != nil {
			d.decode("", n, reflect.ValueOf(c).Elem())
		}
	}
	d.environment(env, c)
	c.normalize(&d.problems)
	if len(d.problems) > 0 {
		return nil, d.problems.err()
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	return c, nil
}

// normalize completes what depends on other keys, and gives
// Docker Hub's two names and URLs with and without a final slash one form.
func (c *Config) normalize(p *problems) {
	c.HTTP.Host = strings.TrimSuffix(c.HTTP.Host, "/")
	if c.HTTP.Host == "" {
		c.HTTP.Host = defaultHost(c.HTTP.Addr, c.HTTP.TLS.Certificate != "")
	}
	for host, r := range c.Registries {
		r.URL = strings.TrimSuffix(r.URL, "/")
		c.Registries[host] = r
	}
	c.API.Builds.Forward = strings.TrimSuffix(c.API.Builds.Forward, "/")
	if c.Cache.Dir == "" && c.Cache.Size > 0 {
		c.Cache.Dir = filepath.Join(c.Storage.Dir, "cache")
	}
	if c.Registry.Auth == "basic" && c.Registry.Htpasswd == "" {
		c.Registry.Htpasswd = c.API.Htpasswd
	}
	for name, i := range c.API.Identities {
		if i.Credentials == nil {
			i.Credentials = []string{shared} // said, because none at all means something else
			c.API.Identities[name] = i
		}
	}
	oneHub(c.Registries, "registries", p)
	for name, set := range c.Credentials {
		oneHub(set.Registries, "credentials."+name+".registries", p)
	}
}

// oneHub gives Docker Hub's repositories the host that image names have.
func oneHub[T any](byPrefix map[string]T, key string, p *problems) {
	for _, name := range slices.Sorted(maps.Keys(byPrefix)) {
		path, legacy := strings.CutPrefix(name, "index.docker.io")
		if !legacy || path != "" && path[0] != '/' {
			continue
		}
		hub := "docker.io" + path
		if _, both := byPrefix[hub]; both {
			p.add(key, name, "is the same as "+hub+", which is given too")
		}
		byPrefix[hub] = byPrefix[name]
		delete(byPrefix, name)
	}
}

// baseURL is http.host or, where that had to wait for the port, its default for
// a server that listens on addr.
func (c *Config) baseURL(addr net.Addr) string {
	if c.HTTP.Host != "" {
		return c.HTTP.Host
	}
	return defaultHost(addr.String(), c.HTTP.TLS.Certificate != "")
}

// defaultHost is the http.host of a server that listens on addr, empty as long
// as the port is not known.
func defaultHost(addr string, tls bool) string {
	host, port, err := net.SplitHostPort(addr)
	if err != nil || port == "0" || !isPort(port) {
		return ""
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	scheme := "http"
	if tls {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(host, port)
}
