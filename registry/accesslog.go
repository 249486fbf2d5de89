package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"regexp"
	"time"

	"github.com/waveproxy/waveproxy/auth"
)

// record is what handlers note about a request for its one log line.
type record struct {
	err    error
	kind   string // what was asked for, of few words
	source string // where a blob came from
	client netip.Addr
	user   string // who logged in, if anybody had to
}

type recordKey struct{}

// note returns the request's record. Outside AccessLog it is a throw-away.
func note(ctx context.Context) *record {
	if rec, ok := ctx.Value(recordKey{}).(*record); ok {
		return rec
	}
	return new(record)
}

// AccessLog logs each request once, when it has ended, with the full chain of
// its error. Tokens in paths appear as their hash, query strings not at all.
// Requests come from clients, or through proxies. observe, if not nil, is told
// of each as well.
func AccessLog(log *slog.Logger, proxies Proxies, observe func(Request), next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &record{client: proxies.Client(r), kind: "api"}
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		counted := &response{ResponseWriter: w, status: http.StatusOK}
		finished := false
		defer func() {
			level := slog.LevelInfo
			if isFailure(rec.err) {
				level = slog.LevelError
			}
			attrs := []slog.Attr{
				slog.String("method", r.Method), slog.String("path", RedactPath(r.URL.Path)),
				slog.Int("status", counted.status), slog.Int64("bytes", counted.bytes),
				slog.Duration("took", time.Since(start).Round(time.Microsecond)),
				slog.String("client", rec.client.String()), slog.String("agent", r.UserAgent()),
			}
			if rec.user != "" {
				attrs = append(attrs, slog.String("user", rec.user))
			}
			if rec.source != "" {
				attrs = append(attrs, slog.String("source", rec.source))
			}
			if !finished {
				attrs = append(attrs, slog.Bool("aborted", true))
			}
			if rec.err != nil {
				attrs = append(attrs, slog.String("error", rec.err.Error()))
			}
			log.LogAttrs(r.Context(), level, "request", attrs...)
			if observe != nil {
				status := counted.status
				if !counted.wrote && r.Context().Err() != nil {
					status = statusLeft
				}
				observe(Request{rec.kind, rec.source, status, counted.bytes, time.Since(start)})
			}
		}()
		next.ServeHTTP(counted, r)
		finished = true
	})
}

// Request is one that has ended.
type Request struct {
	Kind   string // "ping", "manifest", "blob", "tags", "referrers", "other" or "api"
	Source string // of a blob: "injected" or "upstream"
	Status int    // 499 if the client left before there was one
	Bytes  int64  // of the body
	Took   time.Duration
}

// statusLeft is nginx's for clients that do not wait for an answer.
const statusLeft = 499

// isFailure tells what an operator should look at from what a client did.
func isFailure(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) {
		return false
	}
	status := ProblemOf(err).Status
	return status >= http.StatusInternalServerError && status != http.StatusNotImplemented
}

// response counts what passes. It keeps ReadFrom, so that files still reach
// the socket through sendfile, and Unwrap, for http.ResponseController.
type response struct {
	http.ResponseWriter
	status int
	bytes  int64
	wrote  bool
}

func (w *response) WriteHeader(status int) {
	if !w.wrote && status >= http.StatusOK {
		w.status, w.wrote = status, true
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *response) Write(p []byte) (int, error) {
	w.wrote = true
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

func (w *response) ReadFrom(r io.Reader) (int64, error) {
	w.wrote = true
	n, err := io.Copy(w.ResponseWriter, r)
	w.bytes += n
	return n, err
}

func (w *response) Unwrap() http.ResponseWriter { return w.ResponseWriter }

var tokenInPath = regexp.MustCompile(`[a-z2-7]{39}`)

// RedactPath replaces tokens in a path by their hash.
func RedactPath(path string) string {
	return tokenInPath.ReplaceAllStringFunc(path, func(t string) string {
		return "~" + auth.Token(t).Short()
	})
}
