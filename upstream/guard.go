package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"time"

	"code.dny.dev/ssrf"

	"github.com/waveproxy/waveproxy/auth"
)

// ErrForbiddenAddress is in the chain of errors about a host that is neither
// listed nor at a public address.
var ErrForbiddenAddress = errors.New("not a public address")

const connectTimeout = 10 * time.Second // includes resolving the name

// guard connects to listed hosts at any address, and to other hosts only at
// public addresses. It checks the address of the connection itself and not an
// earlier look-up of the name, because a name may resolve to another address the
// next time.
type guard struct {
	listed map[string]bool // by address
	plain  net.Dialer
	public net.Dialer // refuses listed hosts, too, at other than public addresses
}

// azureWireServer is a metadata service of every Azure machine. Its address is in
// public address space.
var azureWireServer = netip.MustParsePrefix("168.63.129.16/32")

func newGuard(listed map[string]bool) *guard {
	public := ssrf.New(ssrf.WithAnyPort(), ssrf.WithDeniedV4Prefixes(azureWireServer))
	return &guard{
		listed: listed,
		plain:  net.Dialer{Timeout: connectTimeout},
		public: net.Dialer{
			Timeout: connectTimeout,
			Control: func(network, address string, conn syscall.RawConn) error {
				if err := public.Safe(network, address, conn); err != nil {
					return fmt.Errorf("%w: %w", ErrForbiddenAddress, err)
				}
				return nil
			},
		},
	}
}

// isListed reports whether a host and port, as a dialer gets them, are a listed
// host's.
func (g *guard) isListed(addr string) bool {
	host, port, err := auth.SplitHost(addr)
	return err == nil && g.listed[net.JoinHostPort(host, port)]
}

// DialContext connects to addr. It is http.Transport's DialContext.
func (g *guard) DialContext(ctx context.Context, network, addr string) (net.Conn, error) {
	if g.isListed(addr) {
		return g.plain.DialContext(ctx, network, addr)
	}
	return g.public.DialContext(ctx, network, addr)
}

// mayOffer reports whether the server may redirect a client to the URL. It may
// not if the host is an address that the server itself would refuse, or a name
// that some clients take for such an address: "localhost", 127.1, 0x7f000001. The
// server cannot know what other names resolve to at the client.
func (g *guard) mayOffer(c *call, u *url.URL) bool {
	if c.listed && g.listed[address(u)] {
		return true
	}
	host := strings.ToLower(u.Hostname())
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return isOrdinaryName(host)
	}
	_, port, _ := net.SplitHostPort(address(u)) // no port is refused
	return g.checkAddress(ip, port) == nil
}

// isOrdinaryName reports whether no resolver takes the name for an address.
func isOrdinaryName(host string) bool {
	last := host[strings.LastIndexByte(host, '.')+1:]
	return plainName.MatchString(host) && last != "localhost" && !looksNumeric.MatchString(last)
}

// checkAddress returns an error for an address at which only listed hosts may be.
func (g *guard) checkAddress(ip netip.Addr, port string) error {
	network := "tcp4"
	if ip.Is6() {
		network = "tcp6"
	}
	return g.public.Control(network, net.JoinHostPort(ip.String(), port), nil)
}

// lookupTimeout bounds the look-up of a host that a proxy will look up itself.
const lookupTimeout = 3 * time.Second

// behind returns an error if a proxy must not be asked to connect to addr, host and
// port. That is decided by the addresses that the name has here, which it returns, if
// it has any: in many networks with a proxy only the proxy knows names outside.
// Then the proxy decides. listed tells whether the call began at a listed host.
func (g *guard) behind(ctx context.Context, addr string, listed bool) ([]netip.Addr, error) {
	if listed && g.isListed(addr) {
		return nil, nil
	}
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	host = strings.ToLower(host)
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, g.checkAddress(ip, port)
	}
	if !isOrdinaryName(host) {
		return nil, fmt.Errorf("%w: %s", ErrForbiddenAddress, host)
	}
	addrs, err := g.lookup(ctx, addr)
	if err != nil && ctx.Err() == nil && g.isListed(addr) {
		return nil, fmt.Errorf("%w: %s is listed, and whether it is at one is not known", ErrForbiddenAddress, host)
	}
	for _, ip := range addrs {
		if err := g.checkAddress(ip, port); err != nil {
			return nil, err
		}
	}
	return addrs, ctx.Err()
}

// lookup returns the addresses of the host in addr, host and port.
func (g *guard) lookup(ctx context.Context, addr string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, err
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{ip}, nil
	}
	addrs, err := g.public.Resolver.LookupNetIP(ctx, "ip", host)
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs, err
}

var (
	plainName    = regexp.MustCompile(`^[a-z0-9_-]+(\.[a-z0-9_-]+)+$`)
	looksNumeric = regexp.MustCompile(`^([0-9]+|0x[0-9a-f]*)$`)
)

// address returns the host and port of a URL, as auth.SplitHost spells them. What is
// no host has an address that no list has.
func address(u *url.URL) string {
	host, port, err := auth.SplitHost(u.Host)
	switch {
	case err != nil:
		return ""
	case port != "":
	case u.Scheme == "http":
		port = "80"
	default:
		port = "443"
	}
	return net.JoinHostPort(host, port)
}
