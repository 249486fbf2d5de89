package front

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/brief"
	"github.com/waveproxy/waveproxy/internal/byterange"
	"github.com/waveproxy/waveproxy/internal/durable"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
	"github.com/waveproxy/waveproxy/upstream"
)

// SourceHeader says where a blob came from: "injected" or "upstream".
// "waveproxy inspect" shows it.
const SourceHeader = "Waveproxy-Source"

// Problem is an error as a client gets it.
type Problem struct {
	Status     int
	Code       string // an OCI error code
	Message    string // one line, without secrets
	RetryAfter time.Duration
}

// Refusal is an error whose text is for the client.
type Refusal struct {
	status  int
	code    Code
	message string
	// retryAfter is how long the client is told to wait, if at all.
	retryAfter time.Duration
}

func (r *Refusal) Error() string { return r.message }

// Refuse returns an error whose text the client gets, with the status and the
// error code. What it quotes, and the whole, is cut (package brief).
func Refuse(status int, code Code, format string, args ...any) *Refusal {
	return &Refusal{status: status, code: code, message: brief.Sprintf(format, args...)}
}

// ProblemOf maps every error to what the client may know of it. It is the one
// place that decides statuses: 404 only for what an upstream or this server knows not
// to exist, 403 for what the person must act on, 502 and 504 for upstreams whose trouble
// may pass by itself: the wave command, Nextflow and podman repeat a request after 502, 503
// and 504, and hide the reason meanwhile.
// Any other error is 500 without its text. No message is longer than brief.Max.
func ProblemOf(err error) Problem {
	p := problemOf(err)
	p.Message = brief.Text(p.Message, brief.Max)
	return p
}

func problemOf(err error) Problem {
	if p, ok := errors.AsType[*Refusal](err); ok {
		return Problem{Status: p.status, Code: code(p.code), Message: p.message, RetryAfter: p.retryAfter}
	}
	if u, ok := errors.AsType[*upstream.Error](err); ok {
		return upstreamProblem(u)
	}
	if a, ok := errors.AsType[*augment.Error](err); ok {
		return Problem{Status: http.StatusBadRequest, Code: code(Unsupported), Message: a.Error()}
	}
	if a, ok := errors.AsType[*auth.Error](err); ok {
		return Problem{Status: http.StatusBadRequest, Code: code(Unsupported), Message: a.Error()}
	}
	if d, ok := errors.AsType[*auth.Denied](err); ok {
		return Problem{Status: http.StatusForbidden, Code: code(Denied), Message: d.Error()}
	}
	if e, ok := errors.AsType[*budget.Exceeded](err); ok {
		return exceededProblem(e)
	}
	if u, ok := errors.AsType[*byterange.Unsatisfiable](err); ok {
		return Problem{Status: http.StatusRequestedRangeNotSatisfiable, Code: code(RangeInvalid), Message: u.Error()}
	}
	if f, ok := errors.AsType[*durable.Full](err); ok {
		return Problem{Status: http.StatusInsufficientStorage, Code: code(Unavailable), Message: f.Error()}
	}
	switch {
	case errors.Is(err, fairqueue.ErrFull):
		return Problem{Status: http.StatusTooManyRequests, Code: code(TooManyRequests), RetryAfter: fullRetry,
			Message: "too many requests of this client are waiting: wait for some of them to end"}
	case errors.Is(err, byterange.ErrOtherBytes):
		return Problem{Status: http.StatusPreconditionFailed, Code: code(Unsupported), Message: byterange.ErrOtherBytes.Error()}
	case errors.Is(err, auth.ErrNoLogin):
		return Problem{Status: http.StatusUnauthorized, Code: code(Unauthorized), Message: "this server requires a login, and the request has none; log in first"}
	case errors.Is(err, auth.ErrWrongLogin):
		return Problem{Status: http.StatusUnauthorized, Code: code(Unauthorized), Message: "wrong user, password or token; check the login"}
	case errors.Is(err, auth.ErrUnknownToken):
		return Problem{Status: http.StatusNotFound, Code: code(NameUnknown),
			Message: "unknown token: the image name is mistyped, or was made by another server; request a new one"}
	case errors.Is(err, auth.ErrDamagedGrant):
		return Problem{Status: http.StatusInternalServerError, Code: code(Unknown),
			Message: "what the server has stored of this token is damaged; the same request for the image makes it anew"}
	case errors.Is(err, auth.ErrExpiredToken), errors.Is(err, auth.ErrRevokedToken):
		return Problem{Status: http.StatusForbidden, Code: code(Denied), Message: err.Error() + "; request a new one"}
	case errors.Is(err, context.DeadlineExceeded):
		return Problem{Status: http.StatusGatewayTimeout, Code: code(Unavailable), Message: "the request took too long and was ended; try again"}
	}
	return Problem{Status: http.StatusInternalServerError, Code: code(Unknown),
		Message: "internal error; the server's log has the cause"}
}

func upstreamProblem(u *upstream.Error) Problem {
	p := Problem{Message: u.Error(), RetryAfter: u.RetryAfter}
	switch u.Kind {
	case upstream.NotFound:
		p.Status, p.Code = http.StatusNotFound, code(ManifestUnknown)
	case upstream.Unauthorized, upstream.Rejected, upstream.Forbidden:
		p.Status, p.Code = http.StatusForbidden, code(Denied)
	case upstream.RateLimited:
		p.Status, p.Code = http.StatusTooManyRequests, code(TooManyRequests)
	case upstream.Timeout:
		p.Status, p.Code = http.StatusGatewayTimeout, code(Unavailable)
	default:
		p.Status, p.Code = http.StatusForbidden, code(Denied)
		if upstream.MayPass(u) {
			p.Status, p.Code = http.StatusBadGateway, code(Unavailable)
		}
	}
	return p
}

// fullRetry is how long a client is told to wait when too many of its requests
// wait already.
const fullRetry = 5 * time.Second

// exceededProblem tells a request that can never pass from one that may pass later,
// and a client with much under way from a server that is busy.
func exceededProblem(e *budget.Exceeded) Problem {
	p := Problem{Message: e.Error(), RetryAfter: e.RetryAfter}
	switch e.Scope {
	case budget.OfRequest:
		p.Status, p.Code = http.StatusRequestEntityTooLarge, code(Unsupported)
	case budget.OfClient:
		p.Status, p.Code = http.StatusTooManyRequests, code(TooManyRequests)
	default:
		p.Status, p.Code = http.StatusServiceUnavailable, code(Unavailable)
	}
	return p
}

func code(c Code) string { return c.Descriptor().Value }

// write sends the problem with the given body. HEAD gets the headers alone.
func (p Problem) write(w http.ResponseWriter, r *http.Request, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		data = []byte(`{}`) // strings only: cannot happen
	}
	h := w.Header()
	for _, name := range []string{"Docker-Content-Digest", "Etag", "Accept-Ranges", SourceHeader} {
		h.Del(name)
	}
	if p.Status != http.StatusRequestedRangeNotSatisfiable { // there it tells the size
		h.Del("Content-Range")
	}
	h.Set("Cache-Control", "no-store") // a cached 404 outlives its cause
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	if p.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(int((p.RetryAfter+time.Second-1)/time.Second)))
	}
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(data) // the client is gone; nothing is left to tell it
	}
}

type errorBody struct {
	Errors []errorEntry `json:"errors"`
}

type errorEntry struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// WriteError answers with the OCI error document and notes the cause for the
// access log. Nothing must have been written before.
func WriteError(w http.ResponseWriter, r *http.Request, err error) {
	RecordOf(r.Context()).Err = err
	p := ProblemOf(err)
	p.write(w, r, errorBody{[]errorEntry{{p.Code, p.Message}}})
}

// WriteAPIError answers with the one-line {"message": "…"} document that
// Wave's clients print as it is.
func WriteAPIError(w http.ResponseWriter, r *http.Request, err error) {
	RecordOf(r.Context()).Err = err
	p := ProblemOf(err)
	p.write(w, r, map[string]string{"message": p.Message})
}
