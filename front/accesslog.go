package front

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"net/http"
	"net/netip"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/brief"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// Record is what handlers add to the one log line of a request.
type Record struct {
	Err    error
	Kind   string // what was asked for, of few words
	Source string // where a blob came from
	client netip.Addr
	User   string // the user that logged in, if a login is required

	Untouched bool // an image pinned by digest, through a recipe that would add to it
}

// Front is what every request passes first. It is safe for concurrent use.
type Front struct {
	Log     *slog.Logger
	Proxies Proxies
	// Observe, if not nil, is told of each request when it has ended.
	Observe func(Request)
	// Stall is how long a client may take nothing of an answer before its
	// connection is cut: at least a second, or 0 for ever. A buffer's worth must
	// pass in that time, 512 KiB at most.
	Stall time.Duration
	// Ledger, if not nil, counts what requests cost. Each request opens its budget
	// there.
	Ledger *budget.Ledger
}

// Handler logs each request once, when it has ended, with the full chain of its
// error. Tokens appear as their hash, query strings not at all.
func (f Front) Handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		ctx := &requestContext{Context: r.Context(), record: Record{client: f.Proxies.Client(r), Kind: "api"}}
		rec := &ctx.record
		if f.Ledger != nil {
			ctx.budget = f.Ledger.OpenIn(ratelimit.AddressKey(rec.client), ratelimit.NetworkKey(rec.client))
		}
		r = r.WithContext(ctx)
		counted := &response{ResponseWriter: w, status: http.StatusOK, stall: f.Stall}
		counted.extend()
		finished := false
		if r.ContentLength != 0 {
			// A handler that reads the body gives it more time. A body that is not read
			// must not hold the connection.
			_ = http.NewResponseController(w).SetReadDeadline(start.Add(unreadTimeout))
			body := &incoming{ReadCloser: r.Body, left: r.ContentLength}
			r.Body = body
			defer func() { // after the request is logged
				if finished {
					body.finish(counted, r, counted.status)
				}
			}()
		}
		defer func() {
			level := slog.LevelInfo
			if isFailure(rec.Err) {
				level = slog.LevelError
			}
			attrs := []slog.Attr{
				slog.String("method", brief.Text(r.Method, maxAgent)), slog.String("path", brief.Text(auth.Redact(r.URL.Path), brief.Max)),
				slog.Int("status", counted.status), slog.Int64("bytes", counted.bytes),
				slog.Duration("took", time.Since(start).Round(time.Microsecond)),
				slog.String("client", rec.client.String()), slog.String("agent", brief.Text(r.UserAgent(), maxAgent)),
			}
			if rec.User != "" {
				attrs = append(attrs, slog.String("user", brief.Text(rec.User, maxAgent)))
			}
			if rec.Untouched {
				attrs = append(attrs, slog.Bool("untouched", true))
			}
			if rec.Source != "" {
				attrs = append(attrs, slog.String("source", rec.Source))
			}
			if !finished {
				attrs = append(attrs, slog.Bool("aborted", true))
			}
			if rec.Err != nil {
				attrs = append(attrs, slog.String("error", auth.Redact(brief.Text(rec.Err.Error(), maxLogged))))
			}
			f.Log.LogAttrs(r.Context(), level, "request", attrs...)
			if f.Observe != nil {
				status := counted.status
				if !counted.wrote && r.Context().Err() != nil {
					status = statusLeft
				}
				f.Observe(Request{rec.Kind, rec.Source, rec.Untouched, status, counted.bytes, time.Since(start)})
			}
		}()
		defer ctx.budget.Leave()
		if err := charge(ctx.budget, r); err != nil {
			counted.Header().Set("Connection", "close")
			writeErrorOf(counted, r, err)
		} else {
			next.ServeHTTP(counted, r)
		}
		finished = true
	})
}

const (
	// maxAgent is how many bytes of a client's name for itself, or for a user, the log
	// shows.
	maxAgent = 200
	// maxLogged is how many bytes of an error the log shows. The chain of an error says
	// more than its message to the client.
	maxLogged = 4 * brief.Max
)

// Request describes a request that has ended.
type Request struct {
	Kind      string // "ping", "manifest", "blob", "tags", "referrers", "other" or "api"
	Source    string // of a blob: "injected", "upstream", "redirect" or "cache"
	Untouched bool   // the manifest was requested by its upstream digest, so the recipe was not applied
	Status    int    // 499 if the client left before there was one
	Bytes     int64  // of the body
	Took      time.Duration
}

// statusLeft is the status that nginx logs when a client leaves before its answer.
const statusLeft = 499

// unreadTimeout is how long a request's body may take when no handler reads it.
const unreadTimeout = 10 * time.Second

// isFailure reports whether an operator should look at the request. What a client did
// wrong is no failure.
func isFailure(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	status := ProblemOf(err).Status
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented
}

// response counts what passes, and cuts clients that take nothing. It keeps
// ReadFrom, so that files still reach the socket through sendfile, and Unwrap,
// for http.ResponseController.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool

	stall    time.Duration
	extended time.Time // when the deadline was last moved
}

// extend gives the client another Stall. It is called before each write, and
// moves the deadline only now and then.
func (w *response) extend() {
	if w.stall == 0 {
		return
	}
	if now := time.Now(); now.Sub(w.extended) > w.stall/8 {
		w.extended = now
		// Writers that have no connection, in tests, cannot set one.
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(now.Add(w.stall))
	}
}

func (w *response) WriteHeader(status int) {
	if !w.wrote && status >= http.StatusOK {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.wrote = true
	total := 0
	for {
		w.extend()
		n, err := w.ResponseWriter.Write(p[total:min(len(p), total+piece)])
		total += n
		w.bytes += int64(n)
		if err != nil || total == len(p) {
			return total, err
		}
	}
}

// piece is how much of a file or an answer is sent between two looks at the clock.
const piece = 1 << 20

// ReadFrom passes a file on as it came: net/http finds it behind one
// LimitedReader, and no more.
func (w *response) ReadFrom(r io.Reader) (int64, error) {
	w.wrote = true
	limited, ok := r.(*io.LimitedReader)
	if !ok {
		limited = &io.LimitedReader{R: r, N: math.MaxInt64}
	}
	var total int64
	for limited.N > 0 {
		w.extend()
		part := &io.LimitedReader{R: limited.R, N: min(limited.N, piece)}
		want := part.N
		n, err := io.Copy(w.ResponseWriter, part)
		total += n
		w.bytes += n
		limited.N -= n
		if err != nil || n < want {
			return total, err
		}
	}
	return total, nil
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }
