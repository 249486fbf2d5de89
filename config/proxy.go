package config

import (
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Proxy is the way out through a proxy. It is used for registries, layers and
// container configs at URLs, cloud logins, the issuer of api.oidc and
// api.builds.forward. The proxy connects on this server's behalf, so it has to
// refuse private addresses itself: names that only the proxy can resolve are its
// matter.
type Proxy struct {
	// URL is where the proxy is: http:// or https:// and host:port, socks5h://, which
	// gets the names of hosts, or socks5://, which gets their addresses. direct is no
	// proxy, environment takes HTTP_PROXY, HTTPS_PROXY and NO_PROXY. Default: direct.
	URL ProxyURL `yaml:"url"`
	// Username logs in to the proxy. Default: none.
	Username string `yaml:"username"`
	// Password of the user.
	Password Secret `yaml:"password"`
	// PasswordFile holds the password. A line break at its end is not part of it.
	PasswordFile string `yaml:"password_file"`
	// PasswordEnv is the environment variable that holds the password.
	PasswordEnv string `yaml:"password_env"`
	// CA is a PEM file of certificates to trust for a proxy at https://, besides the
	// system's. Default: none.
	CA string `yaml:"ca"`
	// NoProxy are hosts that are reached directly: a name with those below it, .name
	// for those below it alone, an address, a network such as 10.0.0.0/8 for hosts that
	// are given as addresses, each with :port or without, or *. localhost and loopback
	// addresses always are. Default: none.
	NoProxy []Exception `yaml:"no_proxy"`
}

func (p Proxy) password() secretSource {
	return secretSource{p.Password, p.PasswordFile, p.PasswordEnv}
}

// ReadPassword returns the password, or "" without one. Errors do not contain it.
func (p Proxy) ReadPassword() (string, error) { return p.password().readGiven() }

func (p Proxy) check(key string, k checker) {
	if (p.Username == "") == p.password().given() {
		k.add(key+".username", Secret(p.Username), "username and password of a proxy go together")
	}
	k.secret(key+".password", p.password())
	k.readable(key+".ca", p.CA)
	if !p.URL.IsURL() && (p.Username != "" || p.CA != "") {
		k.add(key+".url", p.URL, "username and ca are for the URL of a proxy")
	}
}

// ProxyURL is the URL of a proxy, direct or environment. Empty is not set.
type ProxyURL string

// The ways out that are no URL.
const (
	ProxyDirect      ProxyURL = "direct"
	ProxyEnvironment ProxyURL = "environment"
)

var proxySchemes = []string{"http", "https", "socks5", "socks5h"}

// IsURL reports whether a proxy is named.
func (p ProxyURL) IsURL() bool { return p != "" && p != ProxyDirect && p != ProxyEnvironment }

// UnmarshalText refuses a user, because passwords have keys of their own.
func (p *ProxyURL) UnmarshalText(text []byte) error {
	value := strings.TrimSuffix(string(text), "/")
	if ProxyURL(value).IsURL() {
		u, err := url.Parse(value)
		if err != nil || !slices.Contains(proxySchemes, u.Scheme) || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
			return wrong(value, "want direct, environment, or http://, https://, socks5:// or socks5h:// and host:port; a user goes into username and password")
		}
	}
	*p = ProxyURL(value)
	return nil
}

// Exception is a host or a set of hosts.
type Exception string

var exceptionPattern = regexp.MustCompile(`^(\*|(\*?\.)?[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(:[0-9]+)?)$`)

// UnmarshalText refuses what would match nothing.
func (e *Exception) UnmarshalText(text []byte) error {
	value := string(text)
	host := value
	if h, port, err := net.SplitHostPort(value); err == nil && isPort(port) {
		host = h
	}
	_, notNetwork := netip.ParsePrefix(value)
	_, notAddress := netip.ParseAddr(host)
	if notNetwork != nil && notAddress != nil && !exceptionPattern.MatchString(value) {
		return wrong(value, "want a host, .domain, an address or a network such as 10.0.0.0/8")
	}
	*e = Exception(value)
	return nil
}

// checkWay checks how one registry is reached.
func (r Registry) checkWay(key string, k checker) {
	k.readable(key+".ca", r.CA)
	if (r.ClientCert == "") != (r.ClientKey == "") {
		k.add(key+".client_cert", Secret(r.ClientCert), "give both client_cert and client_key, or none")
	} else if r.ClientCert != "" && (r.PlainHTTP || r.URL.Scheme == "http") {
		k.add(key+".client_cert", r.ClientCert, "is never shown over plain HTTP")
	}
	k.readable(key+".client_cert", r.ClientCert)
	k.readable(key+".client_key", r.ClientKey)
}

// way reports whether the registry says how it is reached.
func (r Registry) way() bool {
	return r.URL != (URL{}) || r.PlainHTTP || r.CA != "" || r.ClientCert != "" || r.ClientKey != "" || r.Proxy != ""
}
