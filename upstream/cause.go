package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"regexp"
	"strings"
	"syscall"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"

	"github.com/waveproxy/waveproxy/budget"
)

func (c *call) newError(kind Kind) *Error {
	return &Error{
		Kind: kind, Op: c.op, Registry: c.target.Registry, Host: c.host, Name: c.name, Credential: c.credential,
	}
}

// refused returns the error for a response with an unwanted status.
func (c *call) refused(resp *http.Response) error {
	e := c.newError(Failed)
	e.Host, e.RetryAfter, e.loggedIn = resp.Request.URL.Host, retryAfter(resp), c.bearer
	e.absent = resp.StatusCode == http.StatusNotFound && e.Host == c.host
	return e.withStatus(resp.StatusCode, c.host)
}

// withStatus sets the kind. A storage behind the registry, unlike its login
// service, does not know our credentials, so its refusal is a failure of the
// registry.
func (e *Error) withStatus(status int, trusted string) *Error {
	e.Status = status
	switch status {
	case http.StatusNotFound:
		e.Kind = NotFound
	case http.StatusTooManyRequests:
		e.Kind = RateLimited
	case http.StatusUnauthorized, http.StatusForbidden:
		switch {
		case e.Registry != "" && e.Host != trusted:
			e.Kind = Failed
		case e.Credential != "":
			e.Kind = Rejected
		default:
			e.Kind = Unauthorized
		}
	default:
		e.Kind = Failed
	}
	return e
}

// failed returns the error for a call that got no response. Only a text of the innermost
// cause is kept, because the errors of net/http and oras around it quote URLs and
// answers, and the cause itself may have what the host has sent.
func (c *call) failed(ctx context.Context, err error) error {
	err = c.explained(ctx, err)
	if e, ok := errors.AsType[*Error](err); ok {
		e.settle()
	}
	return err
}

func (c *call) explained(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.Canceled) && !errors.Is(context.Cause(ctx), errStalled) {
		return fmt.Errorf("%s %s: %w", c.op, c.name, ctx.Err())
	}
	if full, ok := errors.AsType[*budget.Exceeded](err); ok {
		return fmt.Errorf("%s %s: %w", c.op, c.name, full) // the host is not to blame
	}
	e := c.newError(Failed)
	if hop, ok := errors.AsType[*hopError](err); ok {
		e.Host, e.Err = hop.host, hop.err
	}
	if resp, ok := errors.AsType[*errcode.ErrorResponse](err); ok {
		// oras returns this error only for token requests.
		e.Host = resp.URL.Host
		return e.withStatus(resp.StatusCode, e.Host)
	}
	oras := orasRefusal(err)
	policy, isPolicy := errors.AsType[*policyError](err)
	keychain, isKeychain := errors.AsType[*keychainError](err)
	switch {
	case errors.Is(err, errQueued):
		e.Kind = Timeout
		e.detail = e.Host + " is busy with earlier requests of this server, so this one was not sent in time; try again later"
	case errors.Is(context.Cause(ctx), errStalled):
		e.Kind, e.Err = Timeout, errStalled
	case errors.Is(err, orasauth.ErrBasicCredentialNotFound):
		return e.withStatus(http.StatusUnauthorized, e.Host)
	case isPolicy:
		e.Kind, e.Err = policy.kind, policy
		e.detail = fmt.Sprintf("refusing to go where %s leads: %s", e.Host, policy.reason)
	case oras != "":
		e.Kind = Forbidden
		e.detail = fmt.Sprintf("refusing to go where %s leads: %s", e.Host, oras)
	case isKeychain:
		e.Err, e.passing = keychain, true
		e.detail = "the look-up of a credential for " + c.target.Registry + " failed on this server; check its credential helpers and cloud logins"
	case errors.Is(err, ErrForbiddenAddress):
		e.Kind = Forbidden
		e.detail = e.Host + " is not at a public address, so this server connects to it only if it is configured; "
		if e.Host == c.host || c.listed {
			e.detail += "list it under registries to allow it"
		} else {
			e.detail += "list it and " + c.host + ", which leads there, under registries to allow it"
		}
	case e.Err != nil:
		e.setKind()
	case errors.Is(err, context.DeadlineExceeded):
		e.Kind, e.Err = Timeout, context.DeadlineExceeded
	default:
		e.detail = "the request failed: " + query.ReplaceAllString(err.Error(), "")
	}
	return e
}

// orasRefusal returns what oras refused for safety, or "". These errors have no
// type, so it compares their texts; tests fail when a text changes.
func orasRefusal(err error) string {
	for text, reason := range map[string]string{
		"uses http but registry was contacted over https": "a login service without TLS",
		"uses unsupported scheme":                         wantURL,
		"refusing to resend a token request body":         "a login service that hands credentials on to another host",
	} {
		if strings.Contains(err.Error(), text) {
			return reason
		}
	}
	return ""
}

// broken returns the error for a body that could not be read to its end.
func (c *call) broken(ctx context.Context, host string, err error) error {
	err = c.failed(ctx, &hopError{host, err})
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == Unreachable {
		e.Kind, e.passing, e.detail = Invalid, true, host+" cut the answer off before its end; try again"
	}
	return err
}

// invalid returns the error for an unusable answer. Its text is the host's name
// followed by the formatted text.
func (c *call) invalid(format string, args ...any) error {
	e := c.newError(Invalid)
	e.detail = c.host + " " + fmt.Sprintf(format, args...)
	return e
}

// cutOff returns the error for an answer that ended before its end.
func (c *call) cutOff() error {
	e := c.newError(Invalid)
	e.passing, e.detail = true, c.host+" cut the answer off before its end; try again"
	return e
}

// setKind sets the kind of a call whose last hop got no answer, from the cause.
func (e *Error) setKind() {
	e.Kind = kindOf(e.Err)
	if p, ok := errors.AsType[*proxyError](e.Err); ok {
		e.detail = p.explain(e.Host)
		return
	}
	switch e.Kind {
	case Invalid:
		e.detail = e.Host + " sent no answer of HTTP that this server takes; check the host and its port"
	case Untrusted:
		e.passing = isPassingAlert(e.Err)
	}
}

// kindOf returns the kind of an error of http.Transport. An unknown error is a
// broken connection, because HTTP/2's errors have no exported types.
func kindOf(err error) Kind {
	var timeout net.Error
	_, unresolved := errors.AsType[*net.DNSError](err)
	if p, ok := errors.AsType[*proxyError](err); ok {
		return p.kind()
	}
	switch {
	case errors.Is(err, ErrForbiddenAddress):
		return Forbidden
	case unresolved:
		return Unresolvable
	case isTLS(err):
		return Untrusted
	case errors.As(err, &timeout) && timeout.Timeout():
		return Timeout
	case isNoHTTP(err):
		return Invalid
	}
	return Unreachable
}

// isNoHTTP reports whether the host answered what no HTTP server sends, or more
// headers than are taken. The errors of net/http have no types, so it compares their
// texts; tests fail when a text changes.
func isNoHTTP(err error) bool {
	_, tooMany := errors.AsType[*headersError](err)
	_, malformed := errors.AsType[textproto.ProtocolError](err)
	if tooMany || malformed {
		return true
	}
	for _, text := range []string{"malformed HTTP ", "server response headers exceeded ", "too many 1xx informational responses"} {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

func isTLS(err error) bool {
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	_, noTLS := errors.AsType[tls.RecordHeaderError](err)
	op, _ := errors.AsType[*net.OpError](err)
	return certificate || noTLS || op != nil && isAlert(op) || isHandshake(err)
}

// isHandshake recognises errors about what a host offers in TLS, such as an old
// version or a certificate that cannot be parsed, by the text of their cause. They
// have no types.
func isHandshake(err error) bool {
	if err == nil {
		return false
	}
	for cause := errors.Unwrap(err); cause != nil; cause = errors.Unwrap(err) {
		err = cause
	}
	return strings.HasPrefix(err.Error(), "tls: ") || strings.HasPrefix(err.Error(), "x509: ")
}

// isPassingAlert reports whether a host ended TLS with an alert about its own state,
// or because bytes were damaged on their way.
func isPassingAlert(err error) bool {
	op, ok := errors.AsType[*net.OpError](err)
	return ok && isAlert(op) && (op.Err.Error() == "tls: internal error" || op.Err.Error() == "tls: bad record MAC")
}

// isAlert recognises crypto/tls's alerts by their operation, because their type
// is not exported.
func isAlert(op *net.OpError) bool { return op.Op == "remote error" || op.Op == "local error" }

// because returns, in brackets, a cause that helps the user, or "". Other causes
// may quote the answer.
func because(err error) string {
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		return fmt.Sprintf(" (%v); if its certificate is from a private authority, give that as ca under registries", e.Err)
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return " (it does not speak TLS); if it is meant to be reached over plain HTTP, set plain_http under registries"
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && isAlert(e) {
		return " (" + e.Err.Error() + ")"
	}
	if errors.Is(err, errLongHandshake) {
		return " (its certificates take more than 32 KiB, which this server does not take)"
	}
	if isHandshake(err) {
		return " (it offers TLS that this server does not take)"
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		return " (" + e.Err + ")"
	}
	if e, ok := errors.AsType[syscall.Errno](err); ok {
		return " (" + e.Error() + ")"
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return " (connection closed)"
	}
	return ""
}

// query matches the query of a quoted URL in an error of net/http or oras.
var query = regexp.MustCompile(`\?[^"]*`)
