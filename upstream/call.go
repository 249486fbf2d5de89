package upstream

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	orasauth "oras.land/oras-go/v2/registry/remote/auth"

	"github.com/waveproxy/waveproxy/auth"
)

// The waits of a call. A blob of any size may take any time, as long as some of
// it keeps coming.
const (
	answerTimeout = 60 * time.Second // for the headers of the last response, with all redirects, logins and retries
	idleTimeout   = 60 * time.Second // for the next bytes of the body
	objectTimeout = 2 * time.Minute  // for a whole manifest or config
	retryBudget   = 10 * time.Second // from the call's start; no retry begins later
)

// call is one question, with every request that it takes: redirects, logins,
// retries. It travels in the context of those requests.
type call struct {
	op, name string      // for messages
	target   auth.Target // zero for URLs
	identity string      // on behalf of which a URL is fetched
	asCaller bool        // whether there is one, though it may be empty
	host     string      // that the first request goes to
	listed   bool        // whether that host is, so that it may lead to others that are
	// verified tells that the answer counts only if it has the expected digest,
	// so a redirect may lead from https to http, as storages in clusters do.
	verified bool
	// redirect tells that where the blob is may be the answer.
	redirect bool
	// long tells that the body may be of any length, and that its reader may be slow.
	long       bool
	retryUntil time.Time

	// The token cache sets these, in the goroutine that made the call.
	token      string // in use, if any; when it was refused, a new one must differ
	reused     bool   // whether the token is of an earlier call
	credential string // the credential behind the token, for messages
	bearer     bool   // the login service gave the token, so the login is good

	// The challenge of the last 401, which arrives in the same goroutine.
	fallback bool // it offered Basic, too, and Bearer was chosen
	basic    bool // Basic is to be chosen
}

type callKey struct{}

func callOf(ctx context.Context) *call {
	c, _ := ctx.Value(callKey{}).(*call)
	return c
}

var errStalled = errors.New("no bytes arrived for too long")

// do runs the call and returns its last response, whatever the status. Errors
// are as Error describes; so are those of reading the body, which must be
// closed.
func (c *Client) do(req *http.Request, cl *call, send func(*http.Request) (*http.Response, error)) (*http.Response, error) {
	cl.host, cl.listed = req.URL.Host, c.hops.guard.listed[address(req.URL)]
	if err := c.permitted(cl, req.URL); err != nil {
		return nil, err
	}
	cl.retryUntil = time.Now().Add(retryBudget)
	ctx, cancel := context.WithCancelCause(context.WithValue(req.Context(), callKey{}, cl))
	stall := time.AfterFunc(c.answerTimeout, func() { cancel(errStalled) })
	resp, err := send(req.WithContext(ctx))
	stall.Stop()
	if err != nil {
		err = cl.failed(ctx, err)
		cancel(nil)
		return nil, err
	}
	resp.Body = &body{
		ReadCloser: resp.Body, call: cl, host: resp.Request.URL.Host,
		ctx: ctx, cancel: cancel, stall: stall, idle: c.idleTimeout,
	}
	return resp, nil
}

// forgetHeaders drops the headers of the response and of the redirects that led to it.
// The transport keeps them as long as the body is read, and each answer may have 64 KiB.
func forgetHeaders(resp *http.Response) {
	for resp != nil {
		clear(resp.Header)
		resp = resp.Request.Response
	}
}

// authorized sends a request of a call and answers what the registry asks.
func (c *Client) authorized(req *http.Request) (*http.Response, error) {
	cl := callOf(req.Context())
	// Some registries leave the scope out of their challenge.
	scope := orasauth.ScopeRepository(cl.target.Repository, orasauth.ActionPull)
	req = req.WithContext(orasauth.WithScopesForHost(req.Context(), req.URL.Host, scope))
	resp, err := c.loggedIn(req)
	if err != nil {
		return nil, err
	}
	if cl.reused && resp.Request.URL.Host == req.URL.Host && mayHaveExpired(resp) {
		// What refuses an expired login without a challenge still sends one when it
		// is asked without a login.
		c.tokens.drop(cl, req.URL.Host)
		discard(resp.Body)
		return c.loggedIn(req)
	}
	return resp, nil
}

// loggedIn sends a request of a call and logs in as the registry asks. If it offers both
// Bearer and Basic and the token service fails or its token is refused, Basic decides,
// unless there is no password.
func (c *Client) loggedIn(req *http.Request) (*http.Response, error) {
	cl := callOf(req.Context())
	resp, err := c.login.Do(req)
	refused := err != nil || resp.StatusCode == http.StatusUnauthorized
	if !cl.fallback || !refused || req.Context().Err() != nil {
		return resp, err
	}
	before := *cl
	cl.fallback, cl.basic = false, true
	c.tokens.drop(cl, req.URL.Host)
	again, errAgain := c.login.Do(req)
	if errAgain != nil {
		cl.token, cl.reused, cl.credential, cl.bearer = before.token, before.reused, before.credential, before.bearer
		return resp, err
	}
	if err == nil {
		discard(resp.Body)
	}
	return again, nil
}

// mayHaveExpired reports whether a login of an earlier call was refused in one
// of the ways that oras does not answer. An expired one gets 401 without a
// challenge from dhi.io, 400 from public.ecr.aws, 403 from ECR and GHCR.
func mayHaveExpired(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return resp.Header.Get("Www-Authenticate") == ""
	case http.StatusBadRequest, http.StatusForbidden:
		return true
	}
	return false
}

// body is the body of a response. It cannot stall for ever, its errors say what
// they are about, and closing it ends the call.
type body struct {
	io.ReadCloser
	call   *call
	host   string // that sends it
	ctx    context.Context
	cancel context.CancelCauseFunc
	stall  *time.Timer
	idle   time.Duration
}

func (b *body) Read(p []byte) (int, error) {
	b.stall.Reset(b.idle)
	n, err := b.ReadCloser.Read(p)
	b.stall.Stop() // the reader may take its time
	if err != nil && err != io.EOF {
		err = b.call.broken(b.ctx, b.host, err)
	}
	return n, err
}

func (b *body) Close() error {
	b.stall.Stop()
	err := b.ReadCloser.Close()
	b.cancel(nil)
	return err
}
