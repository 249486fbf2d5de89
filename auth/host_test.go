package auth

import (
	"net"
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestRegistryHost(t *testing.T) {
	for text, want := range map[string]string{
		"quay.io": "quay.io", "QUAY.io": "quay.io", "quay.io.": "quay.io", "quay.io:": "quay.io", "quay.io.:": "quay.io",
		"quay.io:443": "quay.io", "quay.io:0443": "quay.io", "quay.io.:00443": "quay.io", "quay.io:80": "quay.io:80",
		"quay.io:0080": "quay.io:80", "quay.io:5000": "quay.io:5000", "Quay.IO:05000": "quay.io:5000",
		"docker.io": "docker.io", "registry-1.docker.io": "docker.io", "Index.docker.io.:443": "docker.io",
		"registry.hub.docker.com": "docker.io", "registry-1.docker.io:5000": "registry-1.docker.io:5000",
		"localhost": "localhost", "localhost:5000": "localhost:5000", "a_b": "a_b", "192.0.2.1:443": "192.0.2.1",
		"[2001:DB8::1]": "[2001:db8::1]", "[2001:db8:0:0::01]:0443": "[2001:db8::1]", "[::1]:5000": "[::1]:5000", "[::ffff:192.0.2.1]:80": "192.0.2.1:80",
	} {
		if got, err := RegistryHost(text); got != want || err != nil {
			t.Errorf("%q is %q (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", ".", ":443", "quay..io", "quay.io..", ".quay.io", "quay.io:0", "quay.io:65536", "quay.io:https", "quay.io:+443", "quay.io:443:443",
		"quay%2eio", "ｑuay.io", "quay。io", "quaу.io", "user@quay.io", "quay.io/a", "quay.io?", "quay.io#", "quay.io ", "quay.io\n",
		"[::1", "[::1]5000", "[fe80::1%eth0]", "[192.0.2.1]", "[quay.io]", "::1", "fe80::1%eth0", "[]", strings.Repeat("a", 400),
	} {
		if got, err := RegistryHost(text); err == nil {
			t.Errorf("%q is taken for the host %q", text, got)
		}
	}
}

func TestParseImage(t *testing.T) {
	for text, want := range map[string]string{
		"ubuntu": "docker.io/library/ubuntu", "quay.io:0443/x/y:1": "quay.io/x/y:1", "QUAY.io/x": "quay.io/x",
		"registry-1.docker.io/ubuntu:24.04": "docker.io/library/ubuntu:24.04", "registry.hub.docker.com/a/b": "docker.io/a/b",
		"quay.io:443/x@sha256:" + strings.Repeat("0", 64): "quay.io/x@sha256:" + strings.Repeat("0", 64),
		"localhost:05000/a": "localhost:5000/a", "registry.local:80/a": "registry.local:80/a", "[::ffff:a00:1]:5000/a": "10.0.0.1:5000/a",
	} {
		if got, err := ParseImage(text); err != nil || got.String() != want {
			t.Errorf("%q is %v (%v), want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "quay.io:0/x", "quay.io:99999/x", "UPPER", "quay.io./x y"} {
		if got, err := ParseImage(text); err == nil {
			t.Errorf("%q is taken for %s", text, got)
		}
	}
}

// FuzzHostSpellings: two hosts that a dialer of https takes to the same place have
// one spelling, a spelling is its own, and a pattern for the spelling matches every
// other one.
func FuzzHostSpellings(f *testing.F) {
	for _, text := range []string{"quay.io:0443", "QUAY.io.", "[::ffff:192.0.2.1]:443", "registry-1.docker.io:", "a_b:80", "[2001:db8::01]", "localhost:005000"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		host, err := RegistryHost(text)
		if err != nil {
			return
		}
		if again, err := RegistryHost(host); again != host || err != nil {
			t.Errorf("the spelling %q of %q is spelled %q (%v)", host, text, again, err)
		}
		u, err := url.Parse("https://" + text + "/v2/")
		if err != nil || u.Host != text {
			t.Errorf("%q is taken for a host, and net/url says %v", text, err)
			return
		}
		p, err := ParsePattern(host)
		if err != nil || !p.Match(text, "x") || !p.MatchRegistry(text) {
			t.Errorf("a pattern for %q does not match %q: %v", host, text, err)
		}
		if host != DockerHub {
			if got, want := dialed(t, text), dialed(t, host); got != want {
				t.Errorf("%q leads to %s, its spelling %q to %s", text, got, host, want)
			}
		}
		for _, other := range []string{strings.ToUpper(text), strings.TrimSuffix(text, ":443"), text + ":"} {
			if o, err := RegistryHost(other); err == nil && host != DockerHub && dialed(t, other) == dialed(t, text) && o != host {
				t.Errorf("%q and %q lead to the same place and are spelled %q and %q", text, other, host, o)
			}
		}
	})
}

// dialed returns where net.Dialer takes a host of an https URL.
func dialed(t *testing.T, host string) string {
	u, err := url.Parse("https://" + host)
	if err != nil {
		t.Fatal(err)
	}
	port := u.Port()
	if port == "" {
		port = "443"
	}
	n, err := net.LookupPort("tcp", port)
	if err != nil {
		t.Fatal(err)
	}
	name := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	if a, err := netip.ParseAddr(name); err == nil {
		return netip.AddrPortFrom(a.Unmap(), uint16(n)).String()
	}
	return net.JoinHostPort(name, port[:0]) + netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(n)).String()
}
