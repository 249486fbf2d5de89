package front

import (
	"net/http"
	"net/netip"
	"testing"
)

func TestClientAddress(t *testing.T) {
	proxies := Proxies{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
	for _, c := range []struct {
		what, peer string
		forwarded  []string
		want       string
	}{
		{"no proxy", "192.0.2.1:1000", nil, "192.0.2.1"},
		{"a client that claims to be another", "192.0.2.1:1000", []string{"198.51.100.7"}, "192.0.2.1"},
		{"behind a proxy", "10.0.0.1:1000", []string{"192.0.2.1"}, "192.0.2.1"},
		{"behind a proxy, claiming to be another", "10.0.0.1:1000", []string{"198.51.100.7, 192.0.2.1"}, "192.0.2.1"},
		{"behind two proxies", "10.0.0.1:1000", []string{"198.51.100.7, 192.0.2.1, 10.2.0.1"}, "192.0.2.1"},
		{"two headers", "10.0.0.1:1000", []string{"198.51.100.7", "192.0.2.1"}, "192.0.2.1"},
		{"with a port", "10.0.0.1:1000", []string{"192.0.2.1:4711"}, "192.0.2.1"},
		{"IPv6", "[fd00::1]:1000", []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 with a port", "[fd00::1]:1000", []string{"[2001:db8::1]:4711"}, "2001:db8::1"},
		{"IPv4 in IPv6", "[::ffff:10.0.0.1]:1000", []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"a proxy that says nothing", "10.0.0.1:1000", nil, "10.0.0.1"},
		{"a proxy that says nonsense", "10.0.0.1:1000", []string{"192.0.2.1, unknown"}, "10.0.0.1"},
		{"only proxies", "10.0.0.1:1000", []string{"10.0.0.2, 10.0.0.3"}, "10.0.0.2"},
	} {
		r := &http.Request{RemoteAddr: c.peer, Header: http.Header{"X-Forwarded-For": c.forwarded}}
		if got := proxies.Client(r); got.String() != c.want {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}
