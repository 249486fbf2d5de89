package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// Registry says how to reach a host that image names begin with. The zero
// Registry is a host like any other, except that being listed allows its
// address to be private.
type Registry struct {
	// URL is where the registry is, without a path. Default: https://<host>, and
	// https://registry-1.docker.io for docker.io. A URL that begins with http://
	// implies PlainHTTP.
	URL string
	// PlainHTTP reaches the registry without TLS.
	PlainHTTP bool
	// CA is a PEM file of certificates to trust for this host and no other,
	// besides the system's.
	CA string
	// ClientCert and ClientKey are PEM files of a certificate that is shown to this host
	// and no other.
	ClientCert, ClientKey string
	// Proxy is the way to this host; nil: Options.Proxy. Token services and storages at
	// other hosts have their own way.
	Proxy *Proxy
	// Redirect lets clients follow the registry's redirects of blobs themselves.
	Redirect bool
	// Files says that paths outside the registry's API hold files that every caller
	// may name as layers, even one that may not read the whole registry.
	Files bool
}

// Options are what a Client is made of.
type Options struct {
	Registries map[string]Registry // by host as in image names: "docker.io", "registry.local:5000"
	Keychain   auth.Keychain       // nil: all requests are anonymous
	UserAgent  string
	// Proxy is the way to all hosts that Registries gives none of their own.
	Proxy Proxy
	// CA is a PEM file of certificates to trust for every host, besides the system's.
	CA string
	// Allow and Deny are patterns of the repositories that may be read. Deny
	// wins, and an empty Allow allows all. A registry that Deny covers as a whole
	// is no host for layer URLs either.
	Allow, Deny []auth.Pattern
	// Redirect is Registry.Redirect for hosts that Registries has not.
	Redirect bool
	// StallTimeout is how long nothing of a body may arrive. 0 is a minute.
	StallTimeout time.Duration
	// Permit returns the error for the client if the repository may not be read for
	// the identity. Nil permits all.
	Permit func(auth.Target) error
	// Concurrency bounds the requests to one host that wait for its answer at a
	// time, without those whose body is being read. 0 is 64.
	Concurrency int
	// AnswerTimeout is how long a call may take until the headers of its last
	// response arrive, with its turn in the queue, redirects, logins and retries.
	// 0 is a minute.
	AnswerTimeout time.Duration
	// Wait pauses between attempts, or returns the error of a context that ends
	// first. Nil lets the time pass; tests replace it.
	Wait func(context.Context, time.Duration) error
}

// Client speaks to registries. It is safe for concurrent use.
type Client struct {
	registries map[string]*url.URL // by auth.RegistryHost
	keychain   auth.Keychain
	policy     policy
	permit     func(auth.Target) error // nil permits all
	tokens     *tokenCache
	login      *orasauth.Client // answers challenges
	plain      *http.Client     // does not
	hops       *hops
	noHead     *sizedlru.Cache[noHeadKey, struct{}] // where HEAD was refused lately

	redirect       map[string]bool // by auth.RegistryHost
	files          map[string]bool // by auth.RegistryHost
	redirectOthers bool

	answerTimeout, idleTimeout time.Duration
}

// New returns a Client. It reads the files of certificates and opens no connection.
func New(o Options) (*Client, error) {
	if o.Concurrency < 0 {
		return nil, fmt.Errorf("concurrency %d: want a positive number, or 0 for %d", o.Concurrency, defaultConcurrency)
	}
	permissions, err := newPolicy(o.Allow, o.Deny)
	if err != nil {
		return nil, err
	}
	c := &Client{
		registries: map[string]*url.URL{}, keychain: o.Keychain, policy: permissions, permit: o.Permit, tokens: newTokenCache(),
		noHead:   sizedlru.New[noHeadKey, struct{}](noHeadCost, maxNoHead, noHeadTTL),
		redirect: map[string]bool{}, files: map[string]bool{}, redirectOthers: o.Redirect,
		answerTimeout: cmp.Or(o.AnswerTimeout, answerTimeout), idleTimeout: cmp.Or(o.StallTimeout, idleTimeout),
	}
	listed := map[string]bool{}
	for _, host := range slices.Sorted(maps.Keys(o.Registries)) {
		r := o.Registries[host]
		name, err := auth.RegistryHost(host)
		if err != nil {
			return nil, fmt.Errorf("registries[%s]: %w", host, err)
		}
		base, err := r.base(host)
		if err != nil {
			return nil, fmt.Errorf("registries[%s]: %w", host, err)
		}
		if c.registries[name] != nil {
			return nil, fmt.Errorf("registries[%s]: %s is given in another spelling, too", host, name)
		}
		c.registries[name] = base
		c.redirect[name], c.files[name] = r.Redirect, r.Files
		for _, u := range []*url.URL{base, {Scheme: base.Scheme, Host: host}} {
			listed[address(u)] = true
		}
	}
	r, err := newRoutes(newGuard(listed), o)
	if err != nil {
		return nil, err
	}
	c.hops = newHops(r, newQueue(cmp.Or(o.Concurrency, defaultConcurrency)))
	if o.Wait != nil {
		c.hops.wait = o.Wait
	}
	c.plain = &http.Client{Transport: c.hops, CheckRedirect: c.checkRedirect}
	c.login = &orasauth.Client{
		Client:     c.plain,
		ClientID:   "waveproxy",
		Credential: c.credential,
		Cache:      c.tokens,
		// Empty, not nil: oras resolves the realm's name and compares, which would
		// refuse a listed registry at a private address, and a name may resolve to
		// something else a moment later. The guard looks at every connection when
		// it is made, the token request's and its redirects' included.
		BlockedRealmPrefixes: []netip.Prefix{},
	}
	return c, nil
}

func (r Registry) base(host string) (*url.URL, error) {
	raw := r.URL
	if raw == "" {
		raw = defaultBase(host).String()
		if r.PlainHTTP {
			raw = "http" + strings.TrimPrefix(raw, "https")
		}
	}
	u, err := url.Parse(raw)
	if err != nil {
		return nil, errors.New("url: not a valid URL") // the parser's error quotes it, passwords included
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	switch {
	case !isPlain(u) || *u != url.URL{Scheme: u.Scheme, Host: u.Host}:
		return nil, errors.New("url: want http:// or https:// and a host, nothing else")
	case u.Scheme == "https" && r.PlainHTTP:
		return nil, errors.New("plain_http contradicts url, which begins with https")
	}
	return u, nil
}

func defaultBase(host string) *url.URL {
	if name, err := auth.RegistryHost(host); err == nil && name == auth.DockerHub {
		host = auth.DockerHubAPI
	}
	return &url.URL{Scheme: "https", Host: host}
}

// Repository returns the target's repository. The target is trusted to hold
// parts of a name that was parsed. No request is made yet.
func (c *Client) Repository(t auth.Target) *Repository {
	if host, err := auth.RegistryHost(t.Registry); err == nil {
		t.Registry = host // of what is none, each call is refused
	}
	base, ok := c.registries[t.Registry]
	if !ok {
		return &Repository{client: c, target: t, base: defaultBase(t.Registry), redirect: c.redirectOthers}
	}
	return &Repository{client: c, target: t, base: base, redirect: c.redirect[t.Registry]}
}

// ForgetLogins drops all logins, because the keychain may answer otherwise now. A
// login that is being made stays.
func (c *Client) ForgetLogins() { c.tokens.logins.Purge() }

// Renew reads the files of certificates and keys that the options name anew, and uses
// their proxies from the next connection on. The other options stay as New got them.
// After an error everything stays.
func (c *Client) Renew(o Options) error {
	o.UserAgent = c.hops.userAgent
	r, err := newRoutes(c.hops.guard, o)
	if err != nil {
		return err
	}
	c.hops.routes.Swap(r).closeIdle()
	return nil
}

// CloseIdleConnections closes connections that wait for another request.
func (c *Client) CloseIdleConnections() { c.hops.CloseIdleConnections() }
