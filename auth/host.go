package auth

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/distribution/reference"
)

// DockerHub is how image names spell Docker Hub, and DockerHubAPI the host where
// its registry is. docker.io itself is a web site.
const (
	DockerHub    = "docker.io"
	DockerHubAPI = "registry-1.docker.io"
)

// dockerHub are the hosts that Docker Hub's registry answers to.
var dockerHub = []string{DockerHub, DockerHubAPI, "index.docker.io", "registry.hub.docker.com"}

// DockerHubNames returns all hosts that stand for Docker Hub in image names.
func DockerHubNames() []string { return slices.Clone(dockerHub) }

// RegistryHost returns the one spelling of a registry's host in image names, so
// that hosts can be compared: SplitHost's, without the default port of https, and
// docker.io for all names of Docker Hub. Errors are SplitHost's.
func RegistryHost(text string) (string, error) {
	host, port, err := SplitHost(text)
	switch {
	case err != nil:
		return "", err
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	switch {
	case port != "" && port != "443":
		return host + ":" + port, nil
	case slices.Contains(dockerHub, host):
		return DockerHub, nil
	}
	return host, nil
}

// SplitHost returns host and port in the one spelling of everything that leads to
// the same place: lower case, without the dot that ends a full domain name; an
// address as netip writes it, without brackets, IPv4 in place of IPv6 that stands
// for it; the port without leading zeros, or "". It is an error if the text is no
// host, or has something that a dialer or resolver might read in another way:
// letters outside ASCII, percent signs, zones, user names.
func SplitHost(text string) (host, port string, err error) {
	if len(text) > maxHost {
		return "", "", fmt.Errorf("a host of %d characters: want at most %d", len(text), maxHost)
	}
	host, rest, bracketed := text, "", strings.HasPrefix(text, "[") && strings.Contains(text, "]")
	if bracketed {
		host, rest, _ = strings.Cut(text[1:], "]")
	} else if i := strings.IndexByte(text, ':'); i >= 0 {
		host, rest = text[:i], text[i:]
	}
	wrong := func(why string) (string, string, error) { return "", "", fmt.Errorf("host %q: %s", text, why) }
	if rest != "" {
		if rest[0] != ':' {
			return wrong("want a colon and a port behind the bracket, or nothing")
		}
		if port, err = plainPort(rest[1:]); err != nil {
			return wrong(err.Error())
		}
	}
	if a, err := netip.ParseAddr(host); err == nil && a.Is6() == bracketed && a.Zone() == "" {
		return a.Unmap().String(), port, nil
	}
	if bracketed {
		return wrong("want an IPv6 address without a zone in the brackets")
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	for label := range strings.SplitSeq(host, ".") {
		if label == "" {
			return wrong("a part between the dots is empty")
		}
	}
	if strings.ContainsFunc(host, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '.' && r != '-' && r != '_'
	}) {
		return wrong("want letters of ASCII, digits, dots and hyphens")
	}
	return host, port, nil
}

// maxHost is longer than any name of DNS with a port.
const maxHost = 300

func plainPort(text string) (string, error) {
	if text == "" {
		return "", nil
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < '0' || r > '9' }) {
		return "", fmt.Errorf("port %q is not a number", text)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 {
		return "", fmt.Errorf("port %q: want 1 to 65535", text)
	}
	return strconv.FormatUint(n, 10), nil
}

// maxImage bounds an image name in bytes, before expressions are matched with it.
const maxImage = 4 << 10

// ParseImage reads an image name as reference.ParseNormalizedNamed does, and spells
// its registry as RegistryHost does. A registry whose name is a part of a path at
// Docker Hub in that spelling is an error: registry:443/team/app has no other
// spelling that is not docker.io/registry/team/app.
func ParseImage(text string) (reference.Named, error) {
	if len(text) > maxImage {
		return nil, fmt.Errorf("a name of %d bytes, and at most %d are taken", len(text), maxImage)
	}
	ref, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, err
	}
	domain := reference.Domain(ref)
	host, err := RegistryHost(domain)
	if err != nil || host == domain {
		return ref, err
	}
	plain, err := reference.ParseNormalizedNamed(host + strings.TrimPrefix(ref.String(), domain))
	if err == nil && reference.Domain(plain) != host {
		return nil, fmt.Errorf("registry %q is not told from a name at Docker Hub without its port, dot or upper case: give it a name with a dot, or another port", domain)
	}
	return plain, err
}
