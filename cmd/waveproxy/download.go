package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/waveproxy/waveproxy/upstream"
)

const (
	// answerTimeout is how long a server may take to begin its answer.
	answerTimeout = 30 * time.Second
	// stallTimeout is how long the answer may pause.
	stallTimeout = time.Minute
)

var errStalled = fmt.Errorf("no bytes arrived for %s", stallTimeout)

// downloads returns the client for URLs of the command line. It connects to private
// addresses, too, because the person at the keyboard has named them.
var downloads = sync.OnceValue(func() *http.Client {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = answerTimeout
	return &http.Client{Transport: transport}
})

func isURL(source string) bool {
	return strings.HasPrefix(source, "http://") || strings.HasPrefix(source, "https://")
}

// redact returns a file or URL as messages show it.
func redact(source string) string {
	if isURL(source) {
		return upstream.RedactURL(source)
	}
	return source
}

// localPath returns the path of a file, which may be named as in a configuration.
func localPath(source string) string { return strings.TrimPrefix(source, "file:") }

// open opens a file or URL. size is in bytes, -1 if it is not known.
func open(ctx context.Context, source string) (r io.ReadCloser, size int64, err error) {
	if isURL(source) {
		return download(ctx, source)
	}
	source = localPath(source)
	f, err := os.Open(source)
	if err != nil {
		return nil, 0, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", source)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, info.Size(), nil
}

func download(ctx context.Context, source string) (io.ReadCloser, int64, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, source, nil)
	if err != nil {
		cancel(nil)
		return nil, 0, fmt.Errorf("%s: not a URL", upstream.RedactURL(source))
	}
	req.Header.Set("User-Agent", userAgent)
	resp, err := downloads().Do(req)
	if err != nil {
		cancel(nil)
		var failed *url.Error
		if errors.As(err, &failed) { // its text has the URL, with secrets in it
			err = failed.Err
		}
		return nil, 0, fmt.Errorf("get %s: %w", upstream.RedactURL(source), err)
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		cancel(nil)
		return nil, 0, fmt.Errorf("get %s: %s", upstream.RedactURL(source), resp.Status)
	}
	stalled := time.AfterFunc(stallTimeout, func() { cancel(errStalled) })
	return &arriving{resp.Body, ctx, cancel, stalled}, resp.ContentLength, nil
}

// arriving is a body whose Read fails with errStalled when it pauses too long.
type arriving struct {
	io.ReadCloser
	ctx     context.Context
	cancel  context.CancelCauseFunc
	stalled *time.Timer
}

func (a *arriving) Read(p []byte) (int, error) {
	n, err := a.ReadCloser.Read(p)
	a.stalled.Reset(stallTimeout)
	if err != nil && !errors.Is(err, io.EOF) && context.Cause(a.ctx) != nil {
		err = context.Cause(a.ctx)
	}
	return n, err
}

func (a *arriving) Close() error {
	a.stalled.Stop()
	a.cancel(nil)
	return a.ReadCloser.Close()
}

// progress shows on a terminal how much of a body has been read.
type progress struct {
	io.Reader
	w           io.Writer
	name        string
	read, total int64 // total is -1 if it is not known
	next        time.Time
}

// withProgress returns a reader that shows its progress on w, or r itself if w is
// not a terminal. done ends the line.
func withProgress(r io.Reader, w io.Writer, name string, total int64) (out io.Reader, done func()) {
	f, ok := w.(*os.File)
	if !ok {
		return r, func() {}
	}
	if info, err := f.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return r, func() {}
	}
	p := &progress{Reader: r, w: w, name: name, total: total}
	return p, func() { fmt.Fprintf(w, "\r\x1b[K") }
}

func (p *progress) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	p.read += int64(n)
	if now := time.Now(); now.After(p.next) {
		p.next = now.Add(200 * time.Millisecond)
		fmt.Fprintf(p.w, "\r\x1b[K%s  %s", p.name, formatSize(p.read))
		if p.total > 0 {
			fmt.Fprintf(p.w, " of %s", formatSize(p.total))
		}
	}
	return n, err
}
