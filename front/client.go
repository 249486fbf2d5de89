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
	forwarded := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for _, hop := range slices.Backward(forwarded) {
		if !p.Contain(client) {
			break
		}
		addr, err := forwardedAddr(strings.TrimSpace(hop))
		if err != nil {
			break
		}
		client = addr.Unmap()
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
