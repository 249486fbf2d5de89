package api

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/front"
)

// checkHost refuses a request for a host that is not this server, where no login is
// asked. A web page can have its own name lead to the address of a visitor's server
// (DNS rebinding), and then send requests there as to itself. The browser's Host
// header tells: it has the page's name.
func (s server) checkHost(r *http.Request) error {
	if !s.open() || s.knownHost(hostname(r.Host)) {
		return nil
	}
	return front.Refuse(http.StatusMisdirectedRequest, front.Denied,
		"this server is not known as %.100q: use its address, localhost or the host of http.host, or set http.host to the name that clients use", r.Host)
}

// private are domains that no public name server answers for, so no web page can
// have a name there.
var private = []string{".localhost", ".local", ".internal", ".svc", ".lan", ".home.arpa"}

// knownHost reports whether a name can only be meant for this server: one of its
// own, an address, or a name that is not public, as inside a cluster.
func (s server) knownHost(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	if !strings.Contains(name, ".") { // includes HTTP/1.0 without a host
		return true
	}
	own := func(host string) bool { return hostname(host) == name }
	return own(s.Host) || slices.ContainsFunc(s.Names, own) ||
		slices.ContainsFunc(private, func(domain string) bool { return strings.HasSuffix(name, domain) })
}

// hostname returns the host without its port, in one spelling.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
