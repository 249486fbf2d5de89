// Package remote is the common part of the object storages (blobstore/s3 and its
// siblings): an HTTP client with deadlines, and errors that quote no secret.
//
// The package must never depend on one storage, log, or keep a credential.
//
// Files: remote.go.
package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/internal/brief"
)

const (
	// dialTimeout bounds connecting, and the handshake. A storage is near, and calls are
	// repeated.
	dialTimeout = 5 * time.Second
	// answerTimeout bounds the wait for an answer once the request is sent. Storages
	// that copy or assemble an object answer first and work then.
	answerTimeout = 12 * time.Second
	// idleConnections are kept for each storage: a pull asks for a few objects at once.
	idleConnections = 64
	// maxText bounds what is quoted of an answer, in bytes.
	maxText = 300
)

// Configure gives a transport the proxy and the trust of another one, deadlines, and
// connections that are kept. The metadata services of machines are never reached through
// the proxy, where they would give the identity of another machine.
func Configure(t, like *http.Transport) {
	t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
	t.TLSHandshakeTimeout = dialTimeout
	t.ResponseHeaderTimeout = answerTimeout
	t.MaxIdleConns, t.MaxIdleConnsPerHost = 0, idleConnections
	t.DisableCompression = true // a blob is the bytes that were stored
	if like.TLSClientConfig != nil {
		t.TLSClientConfig = like.TLSClientConfig.Clone()
	}
	t.Proxy = nil
	if proxy := like.Proxy; proxy != nil {
		t.Proxy = func(r *http.Request) (*url.URL, error) {
			if isMetadata(r.URL.Hostname()) {
				return nil, nil
			}
			return proxy(r)
		}
	}
}

// metadataIPv6 is where AWS has the metadata service of IPv6.
var metadataIPv6 = netip.MustParseAddr("fd00:ec2::254")

func isMetadata(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "metadata.google.internal" || err == nil && (ip.IsLinkLocalUnicast() || ip == metadataIPv6)
}

// Client returns a client with a transport like the given one. It follows no redirect,
// because another host would get the signature or the token.
func Client(like *http.Transport) *http.Client {
	t := like.Clone()
	Configure(t, like)
	return &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
}

// long matches words that only a credential or a signature is long enough for.
var long = regexp.MustCompile(`[A-Za-z0-9+/=_.~%-]{100,}`)

// Error returns the error of a call: of one line, with what failed, where, why and what
// to do. Of the cause it has the text, without the secrets and what looks like one, and
// it is in the chain only if the context has ended.
func Error(ctx context.Context, where, operation string, cause error, remedy string, secrets ...string) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %s: %w", where, operation, ctx.Err())
	}
	if e, ok := errors.AsType[*url.Error](cause); ok {
		cause = e.Err // without the URL, whose query may be signed
	}
	text := cause.Error()
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[hidden]")
		}
	}
	text = long.ReplaceAllString(text, "[hidden]")
	text = brief.Text(strings.Trim(strings.Join(strings.Fields(text), " "), ": ."), maxText)
	if remedy != "" {
		text += "; " + remedy
	}
	return fmt.Errorf("%s: %s: %s", where, operation, text)
}
