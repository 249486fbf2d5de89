package api

import (
	"net/http"

	"github.com/waveproxy/waveproxy/front"
)

// checkHost refuses a request for a host that is not this server, where no login is
// asked, because a web page of any name may have sent it.
func (s server) checkHost(r *http.Request) error {
	if !s.open() || front.KnownHost(r, append([]string{s.Host}, s.Names...)...) {
		return nil
	}
	return front.Refuse(http.StatusMisdirectedRequest, front.Denied,
		"this server is not known as %.100q: use its address, localhost or the host of http.host, or set http.host to the name that clients use", r.Host)
}
