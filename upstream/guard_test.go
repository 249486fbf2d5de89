package upstream

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// forbidden runs do and checks that it was refused for the host's address, with
// advice, and without another try.
func forbidden(t *testing.T, c *Client, d *upstreamtest.Pauses, host string, do func() error) {
	t.Helper()
	err := do()
	e := wantError(t, err, Forbidden, host, "not at a public address", "list it under registries")
	if !errors.Is(err, ErrForbiddenAddress) || e.Host != host {
		t.Errorf("host %s: %v", e.Host, err)
	}
	if len(d.All()) != 0 {
		t.Errorf("%d retries", len(d.All()))
	}
}

func TestUnlistedHosts(t *testing.T) {
	s := newServer(t, serveManifest)
	_, port, _ := net.SplitHostPort(s.Host())
	elsewhere := newServer(t, serveManifest)
	for _, host := range []string{
		s.Host(),
		"localhost:" + port,
		"LOCALHOST:" + port,
		"[::1]:" + port,
		"[::ffff:127.0.0.1]:" + port,
		"[64:ff9b::7f00:1]:" + port,
		"0.0.0.0:" + port,
		"127.1.2.3",
		"169.254.169.254",
		"[fe80::1]",
		"[fd00:ec2::254]",
		"10.0.0.1:5000",
		"192.168.0.1",
		"100.100.100.200",
		"168.63.129.16",
	} {
		t.Run(host, func(t *testing.T) {
			// A listed port of the machine does not allow its other ports.
			c, delays := newClient(t, listed(elsewhere))
			spelled, err := auth.RegistryHost(host)
			if err != nil {
				t.Fatal(err)
			}
			forbidden(t, c, delays, spelled, func() error {
				_, err := c.Repository(auth.Target{Registry: host, Repository: "a"}).Manifest(t.Context(), "1.0")
				return err
			})
			forbidden(t, c, delays, host, func() error {
				_, _, err := c.Fetch(t.Context(), "http://"+host+"/layer.tar.gz")
				return err
			})
		})
	}
	s.WantRequests(t)
	elsewhere.WantRequests(t)
}

// The address is checked before the connection is attempted, not after.
func TestGuardRefusesBeforeConnecting(t *testing.T) {
	g := newGuard(nil)
	if err := g.public.Control("tcp4", "169.254.169.254:80", nil); !errors.Is(err, ErrForbiddenAddress) {
		t.Errorf("got %v", err)
	}
	if err := g.public.Control("tcp4", "8.8.8.8:5000", nil); err != nil {
		t.Errorf("a public address: %v", err)
	}
	if g.plain.Control != nil {
		t.Error("listed hosts are guarded")
	}
}

func TestListedAddresses(t *testing.T) {
	tests := []struct {
		host     string
		registry Registry
		want     []string
	}{
		{"registry.local", Registry{}, []string{"registry.local:443"}},
		{"Registry.Local:5000", Registry{}, []string{"registry.local:5000"}},
		{"registry.local", Registry{PlainHTTP: true}, []string{"registry.local:80"}},
		{"docker.io", Registry{}, []string{"docker.io:443", "registry-1.docker.io:443"}},
		{"docker.io", Registry{URL: "http://mirror:8080/"}, []string{"docker.io:80", "mirror:8080"}},
		{"[::1]:5000", Registry{}, []string{"[::1]:5000"}},
	}
	for _, test := range tests {
		c, err := New(Options{Registries: map[string]Registry{test.host: test.registry}})
		if err != nil {
			t.Fatal(err)
		}
		if got := c.hops.guard.listed; len(got) != len(test.want) {
			t.Errorf("%s %+v: listed %v, want %v", test.host, test.registry, got, test.want)
		}
		for _, addr := range test.want {
			if !c.hops.guard.listed[addr] {
				t.Errorf("%s %+v: %s is not listed", test.host, test.registry, addr)
			}
		}
	}
}

func TestListedRegistrySendsUsToUnlistedHost(t *testing.T) {
	internal := newServer(t, serveManifest)
	challenge := func(w http.ResponseWriter, realm string) {
		w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s",service="s"`, realm))
		w.WriteHeader(http.StatusUnauthorized)
	}
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, internal.URL+"/admin?signature=1", http.StatusTemporaryRedirect)
	}
	tests := map[string]http.HandlerFunc{
		"redirect": redirect,
		"realm":    func(w http.ResponseWriter, _ *http.Request) { challenge(w, internal.URL+"/admin") },
		"realm that redirects": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/token" {
				redirect(w, r)
			} else {
				challenge(w, "http://"+r.Host+"/token")
			}
		},
	}
	for name, handler := range tests {
		for _, credential := range []auth.Credential{{}, {Username: "ci", Password: "hunter2"}} {
			t.Run(fmt.Sprint(name, ", ", credential), func(t *testing.T) {
				s := newServer(t, handler)
				o := listed(s)
				o.Keychain = keychain(credential)
				c, delays := newClient(t, o)
				forbidden(t, c, delays, internal.Host(), func() error { return manifestError(t, c, image) })
				forbidden(t, c, delays, internal.Host(), func() error {
					_, _, err := c.Repository(image).Stream(t.Context(), blobDesc, Span{0, blobDesc.Size}, true)
					return err
				})
				if name == "redirect" {
					forbidden(t, c, delays, internal.Host(), func() error {
						_, _, err := c.Fetch(t.Context(), s.URL+"/layer")
						return err
					})
				}
				internal.WantRequests(t)
			})
		}
	}
}

// An unlisted registry cannot lead the server to other paths of a listed host.
func TestStrangersCannotLeadToListedHosts(t *testing.T) {
	internal := newServer(t, serveManifest)
	for name, handler := range map[string]http.HandlerFunc{
		"redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, internal.URL+"/admin", http.StatusTemporaryRedirect)
		},
		"realm": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/admin",service="s"`, internal.URL))
			w.WriteHeader(http.StatusUnauthorized)
		},
	} {
		t.Run(name, func(t *testing.T) {
			stranger := newServer(t, handler)
			c, delays := newClient(t, listed(internal))
			// For this test the unlisted registry's address counts as public, and
			// the registry has no TLS.
			c.registries["stranger.example"], _ = url.Parse(stranger.URL)
			guarded := c.hops.guard.public.Control
			c.hops.guard.public.Control = func(network, address string, conn syscall.RawConn) error {
				if address == stranger.Host() {
					return nil
				}
				return guarded(network, address, conn)
			}
			target := auth.Target{Registry: "stranger.example", Repository: "team/app"}
			err := manifestError(t, c, target)
			wantError(t, err, Forbidden, internal.Host(), "list it and "+stranger.Host())
			if name == "redirect" {
				_, _, err := c.Fetch(t.Context(), stranger.URL)
				wantError(t, err, Forbidden, internal.Host())
			}
			if len(delays.All()) != 0 {
				t.Errorf("%d retries", len(delays.All()))
			}
			internal.WantRequests(t)
		})
	}
}

func TestAddress(t *testing.T) {
	for raw, want := range map[string]string{
		"https://Registry.Example":       "registry.example:443",
		"http://registry.example/v2/":    "registry.example:80",
		"http://registry.example:443/v2": "registry.example:443",
		"https://[::1]":                  "[::1]:443",
		"https://Registry.example.:0443": "registry.example:443",
		"http://registry.example:":       "registry.example:80",
		"http://[::ffff:192.0.2.1]:080":  "192.0.2.1:80",
		"https://registry..example":      "",
		"https://[fe80::1%25eth0]":       "",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		if got := address(u); got != want {
			t.Errorf("%s: %s, want %s", raw, got, want)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		registry Registry
		says     string
	}{
		"path":          {Registry{URL: "https://mirror/cache"}, "nothing else"},
		"user":          {Registry{URL: "https://ci:hunter2@mirror"}, "nothing else"},
		"odd host":      {Registry{URL: "https://mirror..example"}, "nothing else"},
		"query":         {Registry{URL: "https://mirror?x=1"}, "nothing else"},
		"scheme":        {Registry{URL: "ftp://mirror"}, "http:// or https://"},
		"no scheme":     {Registry{URL: "mirror:5000"}, "http:// or https://"},
		"unparsable":    {Registry{URL: "https://ci:hunter2@mir ror"}, "not a valid URL"},
		"contradiction": {Registry{URL: "https://mirror", PlainHTTP: true}, "contradicts"},
		"no CA file":    {Registry{CA: "testdata/absent.pem"}, "ca: open testdata/absent.pem"},
		"no CA":         {Registry{CA: "doc.go"}, "no PEM certificate in doc.go"},
	} {
		_, err := New(Options{Registries: map[string]Registry{"example.org": test.registry}})
		if err == nil || !strings.Contains(err.Error(), "registries[example.org]") || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %v", name, err)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v shows a password", name, err)
		}
	}
}
