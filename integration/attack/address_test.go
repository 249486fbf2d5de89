package attack

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// forbiddenHosts are the addresses that an unlisted host must not lead the server
// to, and names of these addresses, as written in URLs.
var forbiddenHosts = []string{
	"127.0.0.1", "127.8.8.8", "10.0.0.1", "10.255.255.254", "172.16.0.1", "192.168.1.1", "169.254.169.254", "169.254.170.2",
	"100.64.0.1", "100.100.100.200", "168.63.129.16", "192.0.2.1", "198.51.100.1", "240.0.0.1", "0.0.0.0",
	"[::1]", "[::]", "[::ffff:7f00:1]", "[::ffff:a00:1]", "[::ffff:a9fe:a9fe]", "[::7f00:1]", "[fd00:ec2::254]", "[fc00::1]",
	"[64:ff9b::7f00:1]", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::1]", "[2002:a00:1::1]", "[2001:db8::1]",
	"localhost", "LOCALHOST", "loopback.example.com", "private.example.com", "metadata.example.com", "six.example.com",
	"mapped.example.com", "wire.example.com", "several.example.com",
}

var forbiddenNames = map[string][]string{
	"loopback.example.com": {"127.0.0.1"},
	"private.example.com":  {"10.1.2.3"},
	"metadata.example.com": {"169.254.169.254"},
	"six.example.com":      {"::1"},
	"mapped.example.com":   {"::ffff:127.0.0.1"},
	"wire.example.com":     {"168.63.129.16"},
	"several.example.com":  {"192.168.0.1", "127.0.0.1", "fd00::1"},
}

// oddHosts are spellings that some resolvers and parsers take for a private
// address. Any refusal will do, as long as no connection is made.
var oddHosts = []string{
	"2130706433", "0x7f000001", "0x7f.1", "017700000001", "0177.0.0.1", "127.1", "10.1", "0", "2852039166", "0xa9fea9fe",
	"127.0.0.1.", "localhost.", "127%2e0.0.1", "%31%32%37.0.0.1", "127。0。0。1", "①②⑦.⓪.⓪.①", "127.0.0.1%00.example.com",
	"[::1%25lo]", "[fe80::1%25lo]", "good.example.com@127.0.0.1", "127.0.0.1%23.example.com", `127.0.0.1\.example.com`, "127.0.0.1%2f.example.com",
}

// TestAttackAddresses names forbidden addresses, in every spelling, in every
// place that takes a host. An unlisted and a listed registry also lead there in
// every way they can.
func TestAttackAddresses(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	w, image := newNetwork(t), newTinyImage(t)
	// Both registries may lead to the first target, only the listed one to the
	// second, and neither to the others.
	targets := slices.Concat([]string{"good.example.com", "10.9.9.9"}, forbiddenHosts)
	stranger := liar{image, "https://stranger.example.com", targets}
	listed := liar{image, "http://listed.example.net", targets}
	for name, host := range map[string]struct {
		address string
		handler http.Handler
	}{"stranger": {"1.2.3.4", stranger}, "listed": {"5.6.7.8", listed}, "good": {"9.8.7.6", image}, "private": {"10.9.9.9", image}} {
		w.host(host.address, host.handler)
		w.name(name+".example.com", host.address)
		w.name(name+".example.net", host.address)
	}
	for n := range targets {
		w.name(loginHost(n), "1.2.3.4")
	}
	for name, addresses := range forbiddenNames {
		w.name(name, addresses...)
	}
	p := harness.StartProxy(t, "", map[string]string{
		"SSL_CERT_FILE": w.CA, "WAVEPROXY_UPSTREAMS_BLOBS": "stream", // so that the server itself follows the redirects
		"WAVEPROXY_REGISTRIES": `{listed.example.net: {plain_http: true}, "10.9.9.9:80": {plain_http: true}, "10.9.9.9": {}}`,
	})
	for how, try := range direct(p, image) {
		t.Run(how, func(t *testing.T) {
			wantAllowed(t, try(t, "good.example.com"), "good.example.com")
			for _, host := range forbiddenHosts {
				wantForbidden(t, w, try(t, host), host, http.StatusForbidden)
			}
			for _, host := range oddHosts {
				wantForbidden(t, w, try(t, host), host, http.StatusBadRequest, http.StatusForbidden, http.StatusBadGateway)
			}
		})
	}
	for registry, l := range map[string]liar{"stranger": stranger, "listed registry": listed} {
		t.Run(registry, func(t *testing.T) {
			for n, host := range targets {
				for how, try := range led(p, l, n) {
					r, what := try(t, host), how+" to "+host
					if n == 0 || n == 1 && registry != "stranger" {
						wantAllowed(t, r, what)
					} else {
						wantForbidden(t, w, r, what, http.StatusForbidden)
					}
				}
			}
		})
	}
	if in := w.intruded(t); len(in) != 0 {
		t.Errorf("BREACH: after the last request, the forbidden addresses %v saw connections", in)
	}
	t.Run("listed", func(t *testing.T) { wantReachable(t, w) })
	t.Run("offered", func(t *testing.T) { attackOffers(t, w, image) })
}

// attackOffers has a registry redirect clients to forbidden addresses. The server
// cannot know what a name resolves to at the client. It passes no redirect on to
// an address, to a name that some resolvers take for an address, or to the
// client's own machine.
func attackOffers(t *testing.T, w *network, image tinyImage) {
	hosts := slices.Concat([]string{"good.example.com"}, forbiddenHosts, oddHosts)
	l := liar{image, "https://offers.example.com", hosts}
	w.host("4.3.2.1", l)
	w.name("offers.example.com", "4.3.2.1")
	p := harness.StartProxy(t, "", map[string]string{"SSL_CERT_FILE": w.CA, "WAVEPROXY_UPSTREAMS_BLOBS": "redirect"})
	for n, host := range hosts {
		r := led(p, l, n)["redirect of a blob that is pulled"](t, host)
		if in := w.visitors(); len(in) != 0 {
			t.Errorf("BREACH: %s: the forbidden addresses %v saw connections", host, in)
		}
		if r.Status == http.StatusForbidden || r.Status == http.StatusBadGateway {
			continue
		}
		to, err := url.Parse(r.Header.Get("Location"))
		if err != nil || r.Status != http.StatusTemporaryRedirect {
			t.Errorf("%s: status %d to %q (%v): %s", host, r.Status, r.Header.Get("Location"), err, r.Body)
			continue
		}
		if _, named := forbiddenNames[to.Hostname()]; !named && to.Hostname() != "good.example.com" {
			t.Errorf("BREACH: the client is sent to %s", to)
		}
	}
}

func wantAllowed(t *testing.T, r harness.Response, what string) {
	t.Helper()
	if r.Status != http.StatusOK {
		t.Errorf("%s is allowed, but got status %d: %s", what, r.Status, r.Body)
	}
}

func wantForbidden(t *testing.T, w *network, r harness.Response, what string, statuses ...int) {
	t.Helper()
	if !slices.Contains(statuses, r.Status) {
		t.Errorf("%s: status %d, want %v: %s", what, r.Status, statuses, r.Body)
	}
	if r.Status == http.StatusForbidden && len(statuses) == 1 && !strings.Contains(r.Body, "not at a public address") {
		t.Errorf("%s: the refusal does not say why: %s", what, r.Body)
	}
	if in := w.visitors(); len(in) != 0 {
		t.Errorf("BREACH: %s: the forbidden addresses %v saw connections", what, in)
	}
}

// wantReachable is the control: the server does connect to the forbidden
// addresses once they are listed.
func wantReachable(t *testing.T, w *network) {
	hosts := []string{"127.0.0.1", "10.0.0.1", "169.254.169.254", "[::1]", "loopback.example.com", "mapped.example.com", "[64:ff9b::7f00:1]"}
	settings := ""
	for _, host := range hosts {
		settings += `"` + host + `:443": {}, `
	}
	p := harness.StartProxy(t, "", map[string]string{"WAVEPROXY_REGISTRIES": "{" + strings.TrimSuffix(settings, ", ") + "}"})
	for _, host := range hosts {
		submitting(t, p, map[string]any{"containerImage": host + ":443/a:b"})
		if in := w.intruded(t); len(in) == 0 {
			t.Errorf("%s is listed, but saw no connection", host)
		}
	}
}
