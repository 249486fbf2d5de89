package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strconv"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Span is a part of a blob: Length bytes from Offset on, both not negative.
type Span struct{ Offset, Length int64 }

func (s Span) end() int64 { return s.Offset + s.Length }

// Stream opens a part of a blob, whose descriptor must have its size. The body
// yields exactly the span's bytes and then io.EOF, or fails: when the upstream's
// answer breaks, stalls or ends early, the body asks for the rest. So a body
// that ends without an error is as long as it should be, but its bytes are not
// verified, and ctx bounds it.
//
// With Redirect for the registry and from the caller, the registry may send clients of
// the blob to another place that they can reach themselves. Then there is no body, and
// location is that place.
//
// Errors, those of reading included, are *Error, or the context's. One of them may be
// ErrNoRanges as well.
func (r *Repository) Stream(ctx context.Context, d ocispec.Descriptor, span Span, redirect bool) (location string, body io.ReadCloser, err error) {
	s := &stream{repo: r, ctx: ctx, desc: d, start: span.Offset, next: span.Offset, end: span.end()}
	if err := d.Digest.Validate(); err != nil {
		return "", nil, s.call().invalid("cannot be asked for %q, which is not a digest", d.Digest)
	}
	if span.Length == 0 {
		return "", s, nil
	}
	location, err = s.open(redirect && r.redirect)
	if e, ok := errors.AsType[*Error](err); ok && e.Kind == Invalid && !errors.Is(err, ErrNoRanges) {
		// The next one may be right. There is no third: the client has no byte yet, and
		// engines ask again by themselves.
		location, err = s.open(redirect && r.redirect)
	}
	if err != nil || location != "" {
		return location, nil, err
	}
	return "", s, nil
}

const (
	// maxFutile is how many answers in a row may break before they have brought
	// enoughProgress bytes, and maxAnswers how many there may be in all.
	maxFutile      = 5
	maxAnswers     = 200
	enoughProgress = 256 << 10

	// maxSkipped is how many bytes are read and thrown away in all, beside as many as
	// were passed on, because the upstream ignores ranges.
	maxSkipped = 16 << 20
)

// ErrNoRanges says that the upstream sends only whole blobs, and that the span begins
// too far inside. A caller may send its client the whole blob instead.
var ErrNoRanges = errors.New("the registry sends no parts of blobs")

// stream is a body made of as many answers as it takes. It is used by one
// goroutine.
type stream struct {
	repo *Repository
	ctx  context.Context
	desc ocispec.Descriptor

	start     int64
	next, end int64 // of the bytes that are still to come
	skipped   int64
	answer    io.ReadCloser
	broken    error // why answer ended; nil while it goes on

	answers, futile int
	opened          int64 // next when answer began
	whole           bool  // ranges get wrong answers: ask for the whole blob and skip
	unbounded       bool  // answer is of the whole blob and did not say how long it is
}

func (s *stream) Read(p []byte) (int, error) {
	for {
		if s.next == s.end {
			return 0, io.EOF
		}
		if s.broken != nil {
			if err := s.resume(); err != nil {
				return 0, err
			}
		}
		if left := s.end - s.next; int64(len(p)) > left {
			p = p[:left]
		}
		n, err := s.answer.Read(p)
		if s.unbounded && err == nil && s.next+int64(n) == s.desc.Size {
			// The client must not take the beginning of a longer blob for the blob.
			if err := s.ends(); err != nil {
				return 0, err
			}
		}
		s.next += int64(n)
		if err != nil && s.next < s.end {
			s.broken = err
			if err == io.EOF {
				s.broken = s.call().cutOff()
			}
		}
		if n > 0 || s.next == s.end {
			return n, nil
		}
	}
}

// ends returns an error if the answer goes on after the last byte of the blob. One that
// breaks there has ended.
func (s *stream) ends() error {
	if n, _ := io.ReadFull(s.answer, make([]byte, 1)); n > 0 {
		return s.call().invalid("sends more than the %d bytes that the manifest says", s.desc.Size)
	}
	return nil
}

func (s *stream) Close() error {
	if s.answer == nil {
		return nil
	}
	err := s.answer.Close()
	s.answer = nil
	return err
}

// resume replaces an answer that broke. What broke last is the error when that
// cannot be done, unless the new attempt tells more.
func (s *stream) resume() error {
	for {
		if err := s.ctx.Err(); err != nil {
			return s.broken
		}
		if s.next-s.opened >= enoughProgress {
			s.futile = 0
		}
		s.futile++
		if s.futile > maxFutile || s.answers >= maxAnswers {
			return s.broken
		}
		if err := s.repo.client.hops.wait(s.ctx, s.pause()); err != nil {
			return s.broken
		}
		_ = s.Close() // it broke
		_, err := s.open(false)
		if err == nil {
			s.broken = nil
			return nil
		}
		if !isResumable(err) {
			return err
		}
		s.broken = err
	}
}

// longestPause is how long a body may stop because the upstream asks for it.
const longestPause = time.Minute

// pause is none before the first attempt to go on: most often just one
// connection has ended.
func (s *stream) pause() time.Duration {
	if s.futile == 1 {
		return 0
	}
	pause := backoff(s.futile - 1)
	if e, ok := errors.AsType[*Error](s.broken); ok {
		pause = max(pause, min(e.RetryAfter, longestPause))
	}
	return pause
}

// isResumable reports whether another attempt may bring the rest of a body. It is
// narrower than IsTransient: a name that does not resolve or a bad certificate
// stays so for longer than a body may stop.
func isResumable(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok || errors.Is(err, ErrNoRanges) {
		return false
	}
	switch e.Kind {
	case Unreachable, Timeout, RateLimited, Invalid:
		return true
	case Failed:
		return e.Status >= http.StatusInternalServerError
	}
	return false
}

// open asks for what is still to come.
func (s *stream) open(redirect bool) (location string, err error) {
	s.answers++
	s.opened, s.unbounded = s.next, false
	cl := s.call()
	cl.verified, cl.redirect, cl.long = true, redirect, true
	h := http.Header{}
	partial := !s.whole && (s.next > 0 || s.end < s.desc.Size)
	if partial {
		h.Set("Range", fmt.Sprintf("bytes=%d-%d", s.next, s.end-1))
	}
	req := (&http.Request{Method: http.MethodGet, URL: s.repo.blobURL(s.desc.Digest), Header: h}).WithContext(s.ctx)
	resp, err := s.repo.client.do(req, cl, s.repo.client.authorized)
	if err != nil {
		return "", err
	}
	switch {
	case redirect && isRedirect(resp):
		discard(resp.Body)
		to, err := resp.Location()
		if err != nil {
			return "", cl.invalid("redirects to an invalid URL")
		}
		return to.String(), nil
	case resp.StatusCode == http.StatusPartialContent && partial && s.isRest(resp):
		forgetHeaders(resp)
		s.answer = resp.Body
		return "", nil
	case resp.StatusCode == http.StatusPartialContent && !s.whole:
		// Some storages answer with another range than they were asked for.
		resp.Body.Close()
		s.whole = true
		return s.open(redirect)
	case resp.StatusCode == http.StatusOK:
		return "", s.skip(cl, resp)
	}
	discard(resp.Body)
	return "", cl.refused(resp)
}

var contentRange = regexp.MustCompile(`^bytes (\d+)-(\d+)/(\d+|\*)$`)

// isRest reports whether the answer has the bytes from next to end, and is one
// of a blob of the right size.
func (s *stream) isRest(resp *http.Response) bool {
	m := contentRange.FindStringSubmatch(resp.Header.Get("Content-Range"))
	if m == nil || m[3] != "*" && m[3] != strconv.FormatInt(s.desc.Size, 10) {
		return false
	}
	length := resp.ContentLength
	return m[1] == strconv.FormatInt(s.next, 10) && m[2] == strconv.FormatInt(s.end-1, 10) &&
		(length < 0 || length == s.end-s.next)
}

// noRanges wraps an *Error and is ErrNoRanges as well. No other attempt helps.
type noRanges struct{ error }

func (e *noRanges) Unwrap() error        { return e.error }
func (e *noRanges) Is(target error) bool { return target == ErrNoRanges }

// skip reads a whole blob up to where it is needed.
func (s *stream) skip(cl *call, resp *http.Response) error {
	if n := resp.ContentLength; n >= 0 && n != s.desc.Size {
		resp.Body.Close()
		return cl.invalid("sent %d bytes, but the manifest says %d", n, s.desc.Size)
	}
	if s.skipped+s.next > maxSkipped+s.next-s.start {
		resp.Body.Close()
		e := cl.invalid("sends no parts of blobs, and what was asked for begins %d bytes inside of one", s.next)
		return &noRanges{e}
	}
	s.skipped += s.next
	forgetHeaders(resp)
	unwanted := &paced{ReadCloser: resp.Body, call: cl, host: resp.Request.URL.Host}
	if _, err := io.CopyN(io.Discard, unwanted, s.next); err != nil {
		resp.Body.Close()
		if err == io.EOF {
			err = cl.cutOff()
		}
		return err
	}
	s.answer, s.unbounded = resp.Body, resp.ContentLength < 0
	return nil
}

func (s *stream) call() *call { return s.repo.call("pull blob", "@"+s.desc.Digest.String()) }

func isRedirect(resp *http.Response) bool {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		return true
	}
	return false
}

// passOn reports whether the client may follow the redirect itself. At its own origin
// the registry may want the login again, and clients do not follow from https to http.
func passOn(to, from *url.URL) bool {
	return (to.Scheme != from.Scheme || to.Host != from.Host) && to.User == nil &&
		(to.Scheme == "https" || from.Scheme == "http" && to.Scheme == "http")
}
