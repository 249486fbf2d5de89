package config

import (
	"fmt"
	"time"

	"github.com/waveproxy/waveproxy/auth"
)

// Config is the configuration file. The comments of its fields are the reference,
// and the descriptions in the JSON schema. Every key is optional. A key without a
// value keeps its default.
//
// The environment overrides the file: http.addr is WAVEPROXY_HTTP_ADDR,
// storage.dir is WAVEPROXY_STORAGE_DIR, and so on. Lists and maps are given
// whole, as YAML or JSON: WAVEPROXY_REGISTRIES='{"quay.io": {"ca": "ca.pem"}}'.
// An empty variable counts as not set.
type Config struct {
	Log     Log     `yaml:"log"`
	HTTP    HTTP    `yaml:"http"`
	Storage Storage `yaml:"storage"`
	Tokens  Tokens  `yaml:"tokens"`

	// Registries says how to reach and log in to registries, by the host that image
	// names have: "docker.io", "quay.io", "registry.local:5000". A path behind the
	// host, "quay.io/team", gives other credentials for the repositories below it;
	// the longest path counts. Listed hosts may be at private addresses; all others
	// must be at public ones. Credentials given here serve every caller that may ask
	// for a token, unless api.identities says otherwise. Default: none; every public
	// registry is reached over HTTPS and pulled from anonymously.
	Registries map[string]Registry `yaml:"registries"`

	// Recipes are what images get added that are pulled as
	// <host>/wt/<name>/<image>, by every client that can reach this server. A name
	// has at most 32 of a-z and 0-9, with . _ or - between them. All files and URLs
	// in a recipe are read at the start, and upon SIGHUP; when one is bad then, all
	// recipes stay as they were. Default: none.
	Recipes map[string]Recipe `yaml:"recipes"`

	// DockerConfig is the path of a Docker config.json, whose credentials and
	// credential helpers are used for registries without credentials of their own
	// in registries: ~/.docker/config.json, say, spelled out. They, too, serve every
	// caller that may ask for a token, so nothing is read unless it is named.
	// Default: none.
	DockerConfig string `yaml:"docker_config"`

	// Clouds logs in to the registries of cloud providers with the identity of the
	// machine or pod, or with keys, when neither registries nor docker_config has a
	// credential. These, too, serve every caller. Default: none.
	Clouds Clouds `yaml:"clouds"`

	// Credentials are further sets of logins, by a name that
	// api.identities.<name>.credentials uses. Default: none.
	Credentials map[string]CredentialSet `yaml:"credentials"`

	Upstreams Upstreams `yaml:"upstreams"`
	Cache     Cache     `yaml:"cache"`
	API       API       `yaml:"api"`
	Registry  Pulling   `yaml:"registry"`
	Layers    Layers    `yaml:"layers"`
	Limits    Limits    `yaml:"limits"`
}

// Log is what the server logs.
type Log struct {
	// Level is the least severity logged: debug, info, warn or error. Default: info.
	Level Level `yaml:"level"`
	// Format is text, for people, or json, for machines. Default: text.
	Format LogFormat `yaml:"format"`
}

// HTTP is how the server listens.
type HTTP struct {
	// Addr is the TCP address to listen on, as host:port. Without a host, all
	// addresses of the machine; port 0 takes a free one. Default: ":9090".
	Addr Addr `yaml:"addr"`
	// Host is the URL that clients are told to pull from: https://wave.example.org,
	// http://10.0.0.7:9090. It has no path. Default: http://localhost:<port of
	// addr>, with https if a certificate is given, and with the host of addr if
	// that is not a loopback address. With port 0 it is left empty until the
	// server listens.
	Host URL `yaml:"host"`
	// TLS makes the server speak HTTPS. Both files or none. Default: none.
	TLS   TLS   `yaml:"tls"`
	HTTP2 HTTP2 `yaml:"http2"`
	// StallTimeout is how long a client may take nothing of an answer before its
	// connection is cut, at least 1s. Default: 2m.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// DrainDelay is how long requests are still taken after SIGTERM, while /readyz
	// answers 503, so that load balancers find other servers. Default: 0s.
	DrainDelay time.Duration `yaml:"drain_delay"`
	// DrainTimeout is how long running pulls may go on after SIGTERM and drain_delay, at
	// least 1s. A second signal ends them at once.
	// Default: 30s.
	DrainTimeout time.Duration `yaml:"draintimeout"`
	// Debug is a second listener, for the operator alone.
	Debug Debug `yaml:"debug"`
	// Proxies are the addresses (10.0.0.7) and networks (10.0.0.0/8) of reverse
	// proxies in front of this server. The client's address is taken from their
	// X-Forwarded-For, and from no other sender's. Everything at these addresses may
	// claim to be any client. Default: none.
	Proxies []Network `yaml:"proxies"`
}

// TLS is a certificate and its key. Both files are read again when they change.
type TLS struct {
	// Certificate is a PEM file: the certificate, then its intermediates.
	Certificate string `yaml:"certificate"`
	// Key is a PEM file: the private key of the certificate.
	Key string `yaml:"key"`
}

// HTTP2 is offered to TLS clients besides HTTP/1.1, if not disabled.
type HTTP2 struct {
	// Disabled leaves HTTP/2 out. For large blobs it costs about 1.7 times the
	// processor time, and no container engine gains from it. Default: true.
	Disabled bool `yaml:"disabled"`
}

// Debug is the operator's listener.
type Debug struct {
	// Addr is the TCP address that answers /metrics, for Prometheus, and
	// /debug/pprof/. Default: none; nothing listens.
	Addr Addr `yaml:"addr"`
}

// Storage is where the server keeps its data: in a directory, or in a bucket.
type Storage struct {
	// Dir is the directory for injected layers, grants and the generated key. It
	// is made if it does not exist. With a bucket it has temporary files and the cache, and
	// servers do not share it. Default: ./waveproxy-data.
	Dir string `yaml:"dir"`
	// Reserve is how much of the disk stays free for revocations. While less is free,
	// requests that would store something new are refused; everything else goes on,
	// and /readyz says why. Default: 64MiB, or a twentieth of the disk if that is less.
	Reserve Size `yaml:"reserve"`
	// Retention is how long images of recipes and layers that requests have named are
	// kept after their last use. At least 48h. What belongs to a token is kept until the
	// token has ended, and no longer than two days more. Default: 720h (30 days).
	Retention time.Duration `yaml:"retention"`
	// S3 keeps the data in a bucket, which servers may share. It needs tokens.keys.
	S3 S3 `yaml:"s3"`
	// Redirect sends clients to the bucket for large injected layers, with a URL that is
	// good for a quarter of an hour. They must reach it, and tell it where they come from
	// (Referer), with the token in the image's name. Default: false; layers come through
	// this server.
	Redirect bool `yaml:"redirect"`
}

// DefaultReserve is the default of storage.reserve.
const DefaultReserve Size = 64 << 20

// Tokens are the image names that the API hands out.
type Tokens struct {
	// TTL is the lifetime of tokens for which none is asked, and the longest that
	// can be asked. From 1m to 8760h (a year). Default: 36h.
	TTL time.Duration `yaml:"ttl"`
	// Keys verify tokens; the first one also signs. To rotate, put the new key
	// first and drop the old one when its last token has expired. Servers that
	// share a storage need the same keys. Default: one key, generated in
	// storage.dir at the first start.
	Keys []TokenKey `yaml:"keys"`
}

// Read reads all keys.
func (t Tokens) Read() ([]auth.Key, error) {
	var keys []auth.Key
	for i, k := range t.Keys {
		key, err := k.parse()
		if err != nil {
			return nil, fmt.Errorf("tokens.keys[%d]: %w", i, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// TokenKey is a key that signs tokens: at least 32 random bytes in base64, on
// one line, as "openssl rand -base64 32" prints them. Exactly one field is set.
type TokenKey struct {
	// File holds the key. File modes are not checked, because Kubernetes mounts
	// secrets with wide ones.
	File string `yaml:"file"`
	// Key is the key itself.
	Key Secret `yaml:"key"`
}

// parse reads the key from the file or the value.
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

// Upstreams says which images may be used at all, and how registries are read.
// Patterns are a registry ("quay.io"), or a registry and a path
// ("docker.io/library/*"); * stands for anything but the slash behind the
// registry.
type Upstreams struct {
	// Allow are patterns of the images that may be used. Default: those of every
	// public registry.
	Allow []auth.Pattern `yaml:"allow"`
	// Deny are patterns of the images that may not be used, even if allow has them.
	// Default: none.
	Deny []auth.Pattern `yaml:"deny"`
	// Blobs is how untouched blobs reach clients, unless registries says otherwise:
	// stream, through this server, or redirect, to where the registry redirects, if
	// it does. Redirects save this server all the bytes, but clients tell the other
	// place where they come from (Referer), with the token in the image's name, so
	// it must be a place that may know the token. Default: stream.
	Blobs Delivery `yaml:"blobs"`
	// StallTimeout is how long a registry may send nothing of a blob before the
	// rest is asked for anew, at least 1s. Default: 1m.
	StallTimeout time.Duration `yaml:"stall_timeout"`
	// CA is a PEM file of certificates to trust for every host, besides the system's,
	// such as the certificate of a proxy that opens TLS. Default: none.
	CA    string `yaml:"ca"`
	Proxy Proxy  `yaml:"proxy"`
}

// Cache keeps untouched blobs.
type Cache struct {
	// Size is how much of untouched blobs is kept on disk, least recently used
	// evicted; 0 keeps none. With it every blob comes through this server.
	// Default: 0.
	Size Size `yaml:"size"`
	// Dir is the directory for them. Servers must not share it. Default: "cache" in
	// storage.dir.
	Dir string `yaml:"dir"`
}

// Pulling is what pulls take besides the token in the image's name.
type Pulling struct {
	// Auth is none, or basic: the login that "docker login" stores. Default: none.
	Auth PullAuth `yaml:"auth"`
	// Htpasswd is the file of users for basic, with bcrypt hashes, as api.htpasswd.
	// Default: api.htpasswd.
	Htpasswd string `yaml:"htpasswd"`
}

// Layers bounds the layers that requests name.
type Layers struct {
	// MaxSize is the largest layer, compressed, that is fetched from the URL or
	// image a request names, at least 1KiB. Default: 2GiB.
	MaxSize Size `yaml:"max_size"`
}

// Defaults returns a new configuration without a file and an environment.
func Defaults() *Config {
	c := &Config{}
	c.Log.Format = Text // the zero Level is info
	c.HTTP.Addr = ":9090"
	c.Storage = Storage{Dir: "./waveproxy-data", Reserve: DefaultReserve, Retention: 30 * 24 * time.Hour}
	c.Tokens.TTL = auth.DefaultTTL
	c.API.MaxBody = 32 << 20
	c.Layers.MaxSize = 2 << 30
	c.HTTP.HTTP2.Disabled = true
	c.HTTP.StallTimeout, c.HTTP.DrainTimeout = 2*time.Minute, 30*time.Second
	c.Upstreams.Blobs, c.Upstreams.StallTimeout = Stream, time.Minute
	c.API.Auth, c.Registry.Auth = APINone, PullNone
	c.Limits = defaultLimits()
	return c
}
