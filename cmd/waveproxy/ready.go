package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/recipes"
)

// readiness tells whether requests can be served. Safe for concurrent use.
type readiness struct {
	book        *recipes.Book
	certificate *certificate // nil without TLS
	storage     storageProbe
	started     atomic.Bool // each recipe was loaded, or is tried again
	draining    atomic.Bool
}

// check returns why requests cannot be served, or else what does not work while all
// else does. The texts are for clients.
func (r *readiness) check(ctx context.Context) (problems []string, err error) {
	switch {
	case r.draining.Load():
		return nil, errors.New("the server is shutting down")
	case !r.started.Load():
		return nil, fmt.Errorf("reading recipes: %s", strings.Join(r.book.WaitingNames(), ", "))
	}
	if err := r.certificate.check(); err != nil {
		return nil, err
	}
	if err := r.storage.check(ctx); err != nil {
		return nil, err
	}
	for _, name := range r.book.WaitingNames() {
		problems = append(problems, fmt.Sprintf("the recipe %s has not been loaded, so its pulls are refused; the server's log has the cause", name))
	}
	return problems, nil
}

// storageProbe tells whether the storage takes files and gives them back. Safe for
// concurrent use.
type storageProbe struct {
	probe  func() error
	probes flight.Calls

	mu      sync.Mutex
	last    error
	checked time.Time
	began   time.Time // of the look that is under way; zero if there is none
}

const (
	// readyTTL is how long an answer is repeated, because each look writes to the
	// disk, and no login is asked for.
	readyTTL = 2 * time.Second
	// readyTimeout is how long a look may take: a network file system whose server is
	// gone does not answer at all.
	readyTimeout = 5 * time.Second
)

var errSlowStorage = fmt.Errorf("the storage does not answer within %s", readyTimeout)

// check looks once for all concurrent callers, and repeats the last answer for a
// moment. While a look takes too long, no caller waits for it any more.
func (s *storageProbe) check(ctx context.Context) error {
	s.mu.Lock()
	last, age, began := s.last, time.Since(s.checked), s.began
	s.mu.Unlock()
	if age < readyTTL {
		return last
	}
	left := readyTimeout
	if !began.IsZero() {
		left -= time.Since(began)
	}
	ctx, cancel := context.WithTimeout(ctx, left)
	defer cancel()
	if ctx.Err() == context.DeadlineExceeded {
		return errSlowStorage
	}
	// The flight has no end of its own: only one look at a time may hang.
	_, err := flight.Do(ctx, &s.probes, "", readyTimeout, func(context.Context) (struct{}, error) {
		begin := time.Now()
		s.note(func() { s.began = begin })
		err := s.probe()
		s.note(func() {
			s.last, s.checked, s.began = err, time.Now(), time.Time{}
			if s.checked.Sub(begin) > readyTimeout {
				s.last = errSlowStorage // of use to no request, even if the file was written in the end
			}
		})
		return struct{}{}, err
	})
	if errors.Is(err, context.DeadlineExceeded) {
		return errSlowStorage
	}
	return err
}

func (s *storageProbe) note(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}
