package front

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/ratelimit"
)

// Proxies are the addresses of the reverse proxies in front of this server.
// Their X-Forwarded-For is believed, and no other.
type Proxies []netip.Prefix

// Client returns the address of the client: the connection's or, if that is a
// proxy's, the last one in X-Forwarded-For that is not. The addresses before that one
// come from the client, so they prove nothing.
func (p Proxies) Client(r *http.Request) netip.Addr {
	peer, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // not a network connection
	}
	client := peer.Addr().Unmap()
	// Every request comes through here before it is charged, so nothing is made of the
	// whole header, which may be long.
	for _, value := range slices.Backward(r.Header["X-Forwarded-For"]) {
		for more := true; more; {
			if !p.Contain(client) {
				return client
			}
			comma := strings.LastIndexByte(value, ',')
			addr, err := forwardedAddr(strings.TrimSpace(value[comma+1:]))
			if err != nil {
				return client
			}
			client = addr.Unmap()
			if more = comma >= 0; more {
				value = value[:comma]
			}
		}
	}
	return client
}

// forwardedAddr reads an address with or without a port, as proxies write both.
func forwardedAddr(text string) (netip.Addr, error) {
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return ap.Addr(), nil
	}
	return netip.ParseAddr(strings.Trim(text, "[]"))
}

// Contain reports whether the address is a proxy's.
func (p Proxies) Contain(a netip.Addr) bool {
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(a) })
}

// ClientOf returns the name under which limits count the client of a request that
// came through Front.
func ClientOf(ctx context.Context) string { return ratelimit.AddressKey(RecordOf(ctx).client) }
