package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// wrong is the error of a text form. It hides a user in the value.
func wrong(value, want string) error {
	return fmt.Errorf("%q: %s", yamlstrict.HideUser(value), want)
}

// word stores a text that is one of the words.
func word[T ~string](to *T, text []byte, words []T) error {
	if !slices.Contains(words, T(text)) {
		return wrong(string(text), "want one of "+list(words))
	}
	*to = T(text)
	return nil
}

func list[T ~string](words []T) string {
	var texts []string
	for _, w := range words {
		texts = append(texts, string(w))
	}
	return strings.Join(texts, ", ")
}

// Level is the severity of a log record.
type Level struct{ slog.Level }

var levels = []string{"debug", "info", "warn", "error"}

// UnmarshalText takes the four names only, and none of slog's "warn+2".
func (l *Level) UnmarshalText(text []byte) error {
	var name string
	if err := word(&name, text, levels); err != nil {
		return err
	}
	return l.Level.UnmarshalText(text)
}

// MarshalText writes what UnmarshalText reads.
func (l Level) MarshalText() ([]byte, error) { return []byte(strings.ToLower(l.String())), nil }

// LogFormat is the form of log records.
type LogFormat string

// The forms of log records.
const (
	Text LogFormat = "text"
	JSON LogFormat = "json"
)

var logFormats = []LogFormat{Text, JSON}

// UnmarshalText refuses other formats.
func (f *LogFormat) UnmarshalText(text []byte) error { return word(f, text, logFormats) }

// APIAuth is how callers of the API log in.
type APIAuth string

// PullAuth says how clients that pull log in, besides the token in the image's
// name.
type PullAuth string

// The ways to log in.
const (
	APINone   APIAuth  = "none"
	APIBasic  APIAuth  = "basic"
	APIBearer APIAuth  = "bearer"
	PullNone  PullAuth = "none"
	PullBasic PullAuth = "basic"
)

var (
	apiAuths  = []APIAuth{APINone, APIBasic, APIBearer}
	pullAuths = []PullAuth{PullNone, PullBasic}
)

// UnmarshalText refuses other ways.
func (a *APIAuth) UnmarshalText(text []byte) error { return word(a, text, apiAuths) }

// UnmarshalText refuses other ways.
func (a *PullAuth) UnmarshalText(text []byte) error { return word(a, text, pullAuths) }

// Unfit is what becomes of an image that a recipe is not for. Empty is UnfitRefuse.
type Unfit string

// What may become of it.
const (
	UnfitRefuse Unfit = "refuse"
	UnfitPlain  Unfit = "plain"
)

var unfits = []Unfit{UnfitRefuse, UnfitPlain}

// UnmarshalText refuses other words.
func (u *Unfit) UnmarshalText(text []byte) error { return word(u, text, unfits) }

// Delivery is how untouched blobs reach clients. Empty is not set.
type Delivery string

// The ways of blobs.
const (
	Redirect Delivery = "redirect"
	Stream   Delivery = "stream"
)

var deliveries = []Delivery{Redirect, Stream}

// UnmarshalText refuses other ways.
func (d *Delivery) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*d = ""
		return nil
	}
	return word(d, text, deliveries)
}

// Addr is a TCP address to listen on, host:port or :port. Empty is not set.
type Addr string

// UnmarshalText refuses ports that are not numbers.
func (a *Addr) UnmarshalText(text []byte) error {
	if _, port, err := net.SplitHostPort(string(text)); len(text) > 0 && (err != nil || !isPort(port)) {
		return wrong(string(text), wantAddr)
	}
	*a = Addr(text)
	return nil
}

const wantAddr = "want host:port or :port, with a port from 0 to 65535"

func isPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil
}

// URL is the base URL of a server: http or https, and a host. The zero URL is
// not set.
type URL struct {
	Scheme string
	Host   string // with the port, if it has one
}

// ParseURL reads a base URL, with or without a slash at its end.
func ParseURL(text string) (u URL, err error) {
	err = u.UnmarshalText([]byte(text))
	return u, err
}

// UnmarshalText refuses a user, a path and a query. Its error does not show the
// user. The empty text is the zero URL.
func (u *URL) UnmarshalText(text []byte) error {
	value := strings.TrimSuffix(string(text), "/")
	parsed, err := url.Parse(value)
	switch {
	case len(text) == 0:
		*u = URL{}
		return nil
	case err != nil, !isHTTP(parsed), parsed.Hostname() == "", *parsed != (url.URL{Scheme: parsed.Scheme, Host: parsed.Host}):
		return wrong(value, "want https://host or http://host:port, without user, path or query")
	}
	*u = URL{parsed.Scheme, parsed.Host}
	return nil
}

func isHTTP(u *url.URL) bool { return u.Scheme == "http" || u.Scheme == "https" }

// String returns "" for the zero URL.
func (u URL) String() string {
	if u == (URL{}) {
		return ""
	}
	return u.Scheme + "://" + u.Host
}

// MarshalText writes what UnmarshalText reads.
func (u URL) MarshalText() ([]byte, error) { return []byte(u.String()), nil }

// Parsed returns nil for the zero URL.
func (u URL) Parsed() *url.URL {
	if u == (URL{}) {
		return nil
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}
}

// Issuer is the URL of an OpenID Connect issuer. Empty is not set.
type Issuer string

// UnmarshalText keeps the text as it is, because tokens have it letter by letter.
func (i *Issuer) UnmarshalText(text []byte) error {
	if u, err := url.Parse(string(text)); len(text) > 0 && (err != nil || !isHTTP(u) || u.Host == "" || u.User != nil) {
		return wrong(string(text), "want the issuer's URL")
	}
	*i = Issuer(text)
	return nil
}

// Network is a network, or an address as the network of it alone.
type Network struct{ netip.Prefix }

// UnmarshalText reads 10.0.0.0/8 and 10.0.0.7.
func (n *Network) UnmarshalText(text []byte) (err error) {
	if a, e := netip.ParseAddr(string(text)); e == nil {
		n.Prefix, err = a.Prefix(a.BitLen())
	} else {
		n.Prefix, err = netip.ParsePrefix(string(text))
	}
	if err != nil {
		return wrong(string(text), "want an address or a network such as 10.0.0.0/8")
	}
	return nil
}

// Switch is true or false; empty is not set.
type Switch string

// UnmarshalText takes true and false.
func (s *Switch) UnmarshalText(text []byte) error {
	switch string(text) {
	case "", "true", "false":
		*s = Switch(text)
		return nil
	}
	return errors.New("want true or false")
}

// Off reports whether the switch is false, and not only unset.
func (s Switch) Off() bool { return s == "false" }

// Platform is a platform as augment.FormatPlatform writes it. Empty is not set.
type Platform string

// UnmarshalText takes the usual spellings: amd64, x86_64, linux/arm64/v8.
func (p *Platform) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = ""
		return nil
	}
	parsed, err := augment.ParsePlatform(string(text))
	if err != nil {
		return err
	}
	*p = Platform(augment.FormatPlatform(parsed))
	return nil
}

// Digest is a SHA-256 digest. Empty is not set.
type Digest digest.Digest

// UnmarshalText refuses other algorithms.
func (d *Digest) UnmarshalText(text []byte) error {
	if parsed := digest.Digest(text); len(text) > 0 && (parsed.Validate() != nil || parsed.Algorithm() != digest.SHA256) {
		return wrong(string(text), wantDigest)
	}
	*d = Digest(text)
	return nil
}

const wantDigest = "want sha256: and 64 hexadecimal digits, of the archive at url"
