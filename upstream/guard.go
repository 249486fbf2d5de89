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
		last := host[strings.LastIndexByte(host, '.')+1:]
		return plainName.MatchString(host) && last != "localhost" && !looksNumeric.MatchString(last)
	}
	network := "tcp4"
	if ip.Is6() {
		network = "tcp6"
	}
	return g.public.Control(network, address(u), nil) == nil
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
