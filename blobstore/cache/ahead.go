package cache

import (
	"io"
	"sync"

	"github.com/waveproxy/waveproxy/budget"
)

// A fill reads its body ahead into a ring of smallRing bytes, or of largeRing
// bytes once fastAfter bytes have come and the client that began it may have so much
// memory. Most blobs are small, and many can come at once.
const (
	smallRing = 64 << 10
	largeRing = 512 << 10
	fastAfter = 1 << 20
)

// ahead lets one goroutine read while another works on the bytes that have come.
// The worker gets every byte as soon as it is free, and large pieces when it is
// slower than the reader. That pays with TLS, whose reads return one record of
// 16 KiB: writing, hashing and announcing each record by itself costs twice as
// much as everything else.
type ahead struct {
	mu      sync.Mutex
	changed sync.Cond // wakes the waiting goroutine; both never wait at once
	ring    []byte
	in, out int64 // bytes ever put in and taken out
	err     error // that ended the reading
	stopped bool  // pass has returned after an error

	budget *budget.Budget
	held   func() // gives back what the large ring is charged; nil without one
	small  bool   // the ring stays small
}

func newAhead(b *budget.Budget) *ahead {
	a := &ahead{ring: make([]byte, smallRing), budget: b}
	a.changed.L = &a.mu
	return a
}

// release gives back what the large ring is charged, when neither goroutine uses it.
func (a *ahead) release() {
	if a.held != nil {
		a.held()
	}
}

// grow makes the ring large, if that may be charged.
func (a *ahead) grow() {
	held, err := a.budget.Hold(budget.Memory, largeRing-smallRing)
	if err != nil {
		a.small = true
		return
	}
	a.held = held
	a.ring = make([]byte, largeRing)
}

// readFrom puts the bytes of r into the ring, until r ends or work has failed.
func (a *ahead) readFrom(r io.Reader) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err == nil {
		grow := a.in >= fastAfter && len(a.ring) == smallRing && !a.small
		for !a.stopped && (a.in-a.out == int64(len(a.ring)) || grow && a.in > a.out) {
			a.changed.Wait()
		}
		if a.stopped {
			return
		}
		if grow {
			a.grow()
		}
		size := int64(len(a.ring))
		start := a.in % size
		free := a.ring[start:min(size, start+size-(a.in-a.out))]
		a.mu.Unlock()
		n, err := r.Read(free)
		a.mu.Lock()
		a.in += int64(n)
		a.err = err
		a.changed.Signal()
	}
}

// pass calls work with the bytes as they come, at most half a ring at a time. It
// returns the error of work, or the error that ended the reading, or nil at the
// end of the body.
func (a *ahead) pass(work func([]byte) error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for {
		for a.in == a.out && a.err == nil {
			a.changed.Wait()
		}
		if a.in == a.out {
			if a.err == io.EOF {
				return nil
			}
			return a.err
		}
		size := int64(len(a.ring))
		start := a.out % size
		piece := a.ring[start:min(size, start+min(a.in-a.out, size/2))]
		a.mu.Unlock()
		err := work(piece)
		a.mu.Lock()
		a.out += int64(len(piece))
		a.stopped = err != nil
		a.changed.Signal()
		if err != nil {
			return err
		}
	}
}
