package front

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// private are domains that no public name server answers for, so no web page can
// have a name there.
var private = []string{".localhost", ".local", ".internal", ".svc", ".lan", ".home.arpa"}

// KnownHost reports whether a request's Host can only be meant for this server: one of
// its own, an address, or a name that is not public, as inside a cluster. A web page
// can have its own name lead to the address of a visitor's server (DNS rebinding), and
// then send requests there as to itself. The browser's Host header tells, because it
// has the page's name.
func KnownHost(r *http.Request, own ...string) bool {
	name := hostname(r.Host)
	if _, err := netip.ParseAddr(name); err == nil {
		return true
	}
	if !strings.Contains(name, ".") { // includes HTTP/1.0 without a host
		return true
	}
	return slices.ContainsFunc(own, func(host string) bool { return hostname(host) == name }) ||
		slices.ContainsFunc(private, func(domain string) bool { return strings.HasSuffix(name, domain) })
}

// FromBrowser reports whether a web browser sent the request. Browsers send
// Accept-Language with every request, which pages can change and not remove. Container
// engines do not send it.
func FromBrowser(r *http.Request) bool {
	for _, name := range []string{"Accept-Language", "Origin", "Sec-Fetch-Mode"} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return false
}

// hostname returns the host without its port, in one spelling.
func hostname(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	return strings.TrimSuffix(strings.ToLower(host), ".")
}
