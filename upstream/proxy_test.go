package upstream

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

const proxyLogin = "ci:hunter2"

// behindProxy is a registry, its token service and its storage at names that only the
// proxy knows.
type behindProxy struct {
	names    map[string]string // for the proxy
	ca       string
	registry *upstreamtest.Registry
}

func newBehindProxy(t *testing.T) *behindProxy {
	b := &behindProxy{}
	b.registry = startServer(t, func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Host == "auth.example.com":
			fmt.Fprint(w, `{"token": "t1"}`)
		case r.Host == "blobs.example.com":
			_, _ = w.Write(blobBody)
		case r.Header.Get("Authorization") != "Bearer t1":
			w.Header().Set("Www-Authenticate", `Bearer realm="https://auth.example.com/token",service="s"`)
			w.WriteHeader(http.StatusUnauthorized)
		case strings.Contains(r.URL.Path, "/blobs/"):
			http.Redirect(w, r, "https://blobs.example.com/x?signature=s3cr3t", http.StatusTemporaryRedirect)
		default:
			serveManifest(w, r)
		}
	}, (*httptest.Server).StartTLS)
	b.ca, b.names = certificate(t, b.registry), map[string]string{}
	for _, host := range []string{"registry", "auth", "blobs"} {
		b.names[host+".example.com:443"] = b.registry.Host()
	}
	return b
}

var (
	proxied  = auth.Target{Registry: "registry.example.com", Repository: "team/app"}
	blobBody = []byte("the bytes of a layer")
)

// proxyKinds are the kinds of proxies: each with its URL and its CA.
var proxyKinds = map[string]func(*testing.T, map[string]string) (*upstreamtest.Proxy, Proxy){
	"http": func(t *testing.T, names map[string]string) (*upstreamtest.Proxy, Proxy) {
		p := upstreamtest.NewProxy(t, names, (*httptest.Server).Start)
		return p, Proxy{URL: "http://" + p.Addr()}
	},
	"https": func(t *testing.T, names map[string]string) (*upstreamtest.Proxy, Proxy) {
		p := upstreamtest.NewProxy(t, names, (*httptest.Server).StartTLS)
		ca := certificate(t, &upstreamtest.Registry{Server: p.Server()})
		return p, Proxy{URL: "https://" + p.Addr(), CA: ca}
	},
	"socks5h": func(t *testing.T, names map[string]string) (*upstreamtest.Proxy, Proxy) {
		p := upstreamtest.NewSOCKS(t, names)
		return p, Proxy{URL: "socks5h://" + p.Addr()}
	},
}

// public has names resolve to a public address, where the tests' network has no host.
func public(t *testing.T, c *Client) {
	c.hops.guard.public.Resolver = nameServer(t, [4]byte{192, 0, 9, 1})
}

// Manifests, logins and storages are reached through each kind of proxy, with its login
// and without, and nothing else is.
func TestProxies(t *testing.T) {
	b := newBehindProxy(t)
	for kind, start := range proxyKinds {
		for _, login := range []string{"", proxyLogin} {
			t.Run(kind+" "+login, func(t *testing.T) {
				p, way := start(t, b.names)
				if p.Login = login; login != "" {
					way.Username, way.Password, _ = strings.Cut(login, ":")
				}
				c, _ := newClient(t, Options{Proxy: way, CA: b.ca})
				public(t, c)
				o, err := c.Repository(proxied).Manifest(t.Context(), "1.0")
				if err != nil || string(o.Data) != string(manifestBody) {
					t.Fatal(err)
				}
				body, err := c.Repository(proxied).Layer(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(blobBody), Size: int64(len(blobBody))})
				if err != nil {
					t.Fatal(err)
				}
				body.Close()
				want := []string{"CONNECT auth.example.com:443", "CONNECT blobs.example.com:443", "CONNECT registry.example.com:443"}
				if got := p.Take(); !slices.Equal(got, want) {
					t.Errorf("the proxy was asked for %q, want %q", got, want)
				}
			})
		}
	}
}

// Plain HTTP goes through the proxy as well: as a request for a whole URL, where
// proxies allow CONNECT to port 443 alone.
func TestProxyOfPlainHTTP(t *testing.T) {
	s := newServer(t, serveManifest)
	for kind, start := range proxyKinds {
		t.Run(kind, func(t *testing.T) {
			p, way := start(t, map[string]string{"example.org:80": s.Host()})
			p.Login, way.Username, way.Password = proxyLogin, "ci", "hunter2"
			c, _ := newClient(t, Options{Proxy: way, Registries: map[string]Registry{"example.org": {PlainHTTP: true}}})
			wantManifest(t, c, image)
			want := "GET http://example.org" + manifestPath
			if kind == "socks5h" {
				want = "CONNECT example.org:80"
			}
			if got := p.Take(); !slices.Equal(got, []string{want}) {
				t.Errorf("the proxy was asked for %q, want %q", got, want)
			}
			if kind != "socks5h" {
				way.Password = "s3cr3t"
				c, _ := newClient(t, Options{Proxy: way, Registries: map[string]Registry{"example.org": {PlainHTTP: true}}})
				wantError(t, manifestError(t, c, image), Failed, "refused the login of this server")
			}
		})
	}
}

// With socks5:// the proxy gets the address that the guard has seen.
func TestProxyGetsAddresses(t *testing.T) {
	b := newBehindProxy(t)
	p := upstreamtest.NewSOCKS(t, map[string]string{"192.0.9.1:443": b.registry.Host()})
	c, _ := newClient(t, Options{Proxy: Proxy{URL: "socks5://" + p.Addr()}, CA: b.ca})
	public(t, c)
	wantManifest(t, c, proxied)
	if got := p.Take(); !slices.Equal(got, []string{"CONNECT 192.0.9.1:443"}) {
		t.Errorf("the proxy was asked for %q", got)
	}
	c.hops.guard.public.Resolver = nameServer(t)
	wantError(t, manifestError(t, c, auth.Target{Registry: "other.example.com", Repository: "a"}), Unresolvable)
}

// TestProxyGuard: a proxy is not asked for hosts that are not listed where they are
// known not to be public, nor, by others, for listed ones.
func TestProxyGuard(t *testing.T) {
	b := newBehindProxy(t)
	private := []string{
		"10.0.0.7", "169.254.169.254", "192.168.1.1:5000", "168.63.129.16", "0.0.0.0", "[::ffff:10.0.0.7]:443", "[fd00::7]:443",
		"2130706433.", "metadata.localhost", "internal.example.com",
	}
	for kind, start := range proxyKinds {
		t.Run(kind, func(t *testing.T) {
			p, way := start(t, b.names)
			c, _ := newClient(t, Options{Proxy: way, CA: b.ca, Registries: map[string]Registry{"listed.example.com": {}, "10.9.9.9": {}}})
			c.hops.guard.public.Resolver = nameServer(t, [4]byte{192, 0, 9, 1}, [4]byte{10, 1, 2, 3})
			for _, host := range private {
				for _, url := range []string{"https://" + host + "/x", "http://" + strings.TrimSuffix(host, ":443") + "/x"} {
					if _, _, err := c.Fetch(t.Context(), url); err == nil {
						t.Errorf("%s was fetched", url)
					}
				}
			}
			if got := p.Take(); len(got) > 0 {
				t.Errorf("BREACH: the proxy was asked for %q", got)
			}
			_, _, err := c.Fetch(t.Context(), "https://internal.example.com/x")
			wantError(t, err, Forbidden, "not at a public address", "list it under registries")

			// Names that are not known here are the proxy's matter, but not listed ones.
			c.hops.guard.public.Resolver = nameServer(t)
			leading := func(to string) http.HandlerFunc {
				return func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, to, http.StatusFound) }
			}
			for _, to := range []string{"https://listed.example.com/secret", "https://10.9.9.9/secret"} {
				b.registry.Answer(leading(to))
				if _, _, err := c.Fetch(t.Context(), "https://registry.example.com/x"); err == nil {
					t.Errorf("a host that is not listed led to %s", to)
				}
			}
			if got := p.Take(); !slices.Equal(got, []string{"CONNECT registry.example.com:443"}) {
				t.Errorf("BREACH: the proxy was asked for %q", got)
			}
		})
	}
}

// Hosts that are excepted, or that have a way of their own, take that way.
func TestProxyExceptions(t *testing.T) {
	s := newServer(t, serveManifest)
	_, port, _ := net.SplitHostPort(s.Host())
	for name, test := range map[string]struct {
		noProxy []string
		own     *Proxy
		host    string // in the URL of the registry; "example.org" if empty
		direct  bool
	}{
		"nothing":                     {},
		"the host":                    {noProxy: []string{"example.org"}, direct: true},
		"a host above":                {noProxy: []string{"quay.io", ".org"}, direct: true},
		"another host":                {noProxy: []string{"ample.org"}},
		"names below it":              {noProxy: []string{".example.org"}},
		"the port":                    {noProxy: []string{"example.org:" + port}, direct: true},
		"another port":                {noProxy: []string{"example.org:1"}},
		"everything":                  {noProxy: []string{"*"}, direct: true},
		"a way of its own":            {own: &Proxy{}, direct: true},
		"a loopback address":          {host: "127.0.0.1", direct: true},
		"a network":                   {noProxy: []string{"10.0.0.0/8", "127.0.0.0/8"}, host: "127.0.0.1", direct: true},
		"a network of another's name": {noProxy: []string{"127.0.0.0/8"}},
	} {
		t.Run(name, func(t *testing.T) {
			host := "example.org"
			if test.host != "" {
				host = test.host
			}
			at := host + ":" + port
			p := upstreamtest.NewProxy(t, map[string]string{at: s.Host()}, (*httptest.Server).Start)
			c, _ := newClient(t, Options{
				Proxy:      Proxy{URL: "http://" + p.Addr(), NoProxy: test.noProxy},
				Registries: map[string]Registry{"example.org": {URL: "http://" + at, Proxy: test.own}},
			})
			c.hops.guard.plain.Resolver = nameServer(t, [4]byte{127, 0, 0, 1})
			wantManifest(t, c, image)
			if asked := p.Take(); len(asked) > 0 == test.direct {
				t.Errorf("the proxy was asked for %q", asked)
			}
		})
	}
	t.Run("networks of addresses", func(t *testing.T) {
		w, err := newWay(Proxy{URL: "http://proxy:3128", NoProxy: []string{"10.0.0.0/8", "fd00::/8", "192.0.2.7"}})
		if err != nil {
			t.Fatal(err)
		}
		for host, direct := range map[string]bool{"10.1.2.3": true, "10.1.2.3:5000": true, "11.1.2.3": false, "[fd00::1]": true, "192.0.2.7": true, "192.0.2.8": false} {
			req := httptest.NewRequest(http.MethodGet, "https://"+host+"/", nil)
			if p, err := w.to(req.URL); err != nil || (p == nil) != direct {
				t.Errorf("%s: %v, %v", host, p, err)
			}
		}
	})
}

// TestProxyFails: the message names the proxy and the host, and what to do. An error
// that may pass is repeated.
func TestProxyFails(t *testing.T) {
	b := newBehindProxy(t)
	closed := upstreamtest.NewProxy(t, nil, (*httptest.Server).Start)
	closed.Server().Close()
	refusing := func(status int) func(string) int { return func(string) int { return status } }
	for kind, start := range proxyKinds {
		for name, test := range map[string]struct {
			change  func(*upstreamtest.Proxy, *Proxy)
			kind    Kind
			retried bool
			parts   []string
		}{
			"down": {func(_ *upstreamtest.Proxy, w *Proxy) {
				w.URL = w.URL[:strings.Index(w.URL, "//")+2] + closed.Addr()
			}, Unreachable, true, []string{"no connection to the proxy " + closed.Addr(), "connection refused", "reaches registry.example.com", "check that it is up"}},
			"no login":    {func(p *upstreamtest.Proxy, _ *Proxy) { p.Login = proxyLogin }, Failed, false, []string{"refused the login", "upstreams.proxy"}},
			"wrong login": {func(p *upstreamtest.Proxy, w *Proxy) { p.Login, w.Username, w.Password = proxyLogin, "ci", "s3cr3t" }, Failed, false, []string{"refused the login"}},
			"forbidden":   {func(p *upstreamtest.Proxy, _ *Proxy) { p.Refuse = refusing(403) }, Failed, false, []string{"did not connect to registry.example.com", "its operator can allow it"}},
			"no host":     {func(*upstreamtest.Proxy, *Proxy) {}, Unreachable, true, []string{"did not connect to registry.example.com", "check the name"}},
		} {
			t.Run(kind+" "+name, func(t *testing.T) {
				b := newBehindProxy(t)
				if name == "no host" {
					b.names = nil
				}
				p, way := start(t, b.names)
				test.change(p, &way)
				c, pauses := newClient(t, Options{Proxy: way, CA: b.ca})
				public(t, c)
				err := manifestError(t, c, proxied)
				e := wantError(t, err, test.kind, test.parts...)
				if retried := len(pauses.All()) > 0; retried != test.retried || MayPass(e) != test.retried || !IsTransient(e) {
					t.Errorf("retried %t, may pass %t, transient %t", retried, MayPass(e), IsTransient(e))
				}
			})
		}
	}
	p, way := proxyKinds["https"](t, b.names)
	way.CA = ""
	c, _ := newClient(t, Options{Proxy: way, CA: b.ca})
	wantError(t, manifestError(t, c, proxied), Untrusted, "no connection to the proxy "+p.Addr(), "certificate")
}

// TestProxyValues: what cannot be used is an error that does not show it.
func TestProxyValues(t *testing.T) {
	for url, good := range map[string]bool{
		"": true, "http://proxy:3128": true, "https://proxy": true, "socks5://10.0.0.7": true, "socks5h://[fd00::1]:1080": true,
		"ftp://hunter2": false, "http://": false, "http://a:hunter2@[": false, "://hunter2": false,
	} {
		_, err := New(Options{Proxy: Proxy{URL: url}})
		if good != (err == nil) || err != nil && strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", url, err)
		}
	}
	for _, value := range []string{"proxy:3128", "http://ci:hunter2@proxy"} {
		t.Setenv("HTTPS_PROXY", value)
		w, err := newWay(Proxy{URL: ProxyFromEnvironment, NoProxy: []string{"example.net"}})
		if err != nil {
			t.Fatal(err)
		}
		for host, direct := range map[string]bool{"example.org": false, "example.net": true} {
			if p, err := w.to(httptest.NewRequest(http.MethodGet, "https://"+host, nil).URL); err != nil || (p == nil) != direct {
				t.Errorf("%s: %v, %v", host, p, err)
			}
		}
	}
	t.Setenv("HTTPS_PROXY", "ftp://ci:hunter2@proxy")
	if _, err := New(Options{Proxy: Proxy{URL: ProxyFromEnvironment}}); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("%v", err)
	}
}
