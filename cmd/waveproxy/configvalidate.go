package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/auth"
)

// validate reports every value that cannot work, and every file named that
// cannot be read.
func (c *Config) validate() error {
	var p problems
	p.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	p.oneOf("log.format", c.Log.Format, "text", "json")
	if _, port, err := net.SplitHostPort(c.HTTP.Addr); err != nil || !isPort(port) {
		p.add("http.addr", c.HTTP.Addr, "want host:port or :port, with a port from 0 to 65535")
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
	for _, host := range slices.Sorted(maps.Keys(c.Registries)) {
		if !isRegistryHost(host) {
			p.add("registries", host, `want a host as image names have it: "docker.io", "registry.local:5000"`)
		}
		c.Registries[host].validate("registries."+withoutUser(host), &p)
	}
	p.readable("docker_config", c.DockerConfig)
	if c.API.MaxBody < 1<<10 {
		p.add("api.max_body", c.API.MaxBody, "want at least 1KiB")
	}
	for _, user := range slices.Sorted(maps.Keys(c.API.Admins)) {
		p.admin(user, c.API.Admins[user])
	}
	if c.API.Builds.Forward != "" {
		p.url("api.builds.forward", c.API.Builds.Forward)
	}
	if c.Layers.MaxSize < 1<<10 {
		p.add("layers.max_size", c.Layers.MaxSize, "want at least 1KiB")
	}
	if c.Limits.Layers < 1 {
		p.add("limits.layers", c.Limits.Layers, "want at least 1")
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

func (r Registry) validate(key string, p *problems) {
	if r.URL != "" {
		if u := p.url(key+".url", r.URL); u != nil && u.Scheme == "https" && r.PlainHTTP {
			p.add(key+".plain_http", r.PlainHTTP, "contradicts url, which begins with https")
		}
	}
	p.readable(key+".ca", r.CA)
	switch given := r.Password != "" || r.PasswordFile != ""; {
	case r.Password != "" && r.PasswordFile != "":
		p.add(key+".password_file", r.PasswordFile, "give either password or password_file")
	case given && r.Username == "":
		p.add(key+".username", r.Username, "a password needs a username")
	case !given && r.Username != "":
		p.add(key+".username", r.Username, "a username needs password or password_file")
	default:
		if _, err := r.password(); err != nil {
			p.add(key+".password_file", r.PasswordFile, cause(err))
		}
	}
}

// password is the password, wherever it is given; empty without credentials.
func (r Registry) password() (string, error) {
	if r.PasswordFile == "" {
		return string(r.Password), nil
	}
	text, err := readSecret(r.PasswordFile)
	text = bytes.TrimRight(text, "\r\n")
	if err == nil && len(text) == 0 {
		err = errors.New("the file is empty")
	}
	return string(text), err
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

// url returns nil for what is not a plain base URL.
func (p *problems) url(key, value string) *url.URL {
	u, err := url.Parse(value)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || *u != (url.URL{Scheme: u.Scheme, Host: u.Host}) {
		p.add(key, value, "want https://host or http://host:port, without user, path or query")
		return nil
	}
	return u
}

// maxCost keeps one comparison of a password under about a second.
const maxCost = 14

// admin tells no more of a user than could be one: people paste htpasswd's
// whole line.
func (p *problems) admin(user string, hash secret) {
	name, _, pasted := strings.Cut(user, ":")
	key := "api.admins." + withoutUser(name)
	cost, err := bcrypt.Cost([]byte(hash))
	switch {
	case name == "" || pasted:
		p.add(key, secret(user), "want a user name, without a colon, and its hash as the value")
	case err != nil:
		p.add(key, hash, "want a bcrypt hash, as htpasswd -nB prints it after the colon")
	case cost > maxCost:
		p.add(key, hash, fmt.Sprintf("the hash has cost %d: comparing it would take seconds, want at most %d", cost, maxCost))
	}
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
