package cache

import (
	"io"
	"sync"
)

// A fill reads its body ahead, into a ring of smallRing bytes, and of largeRing
// once fastAfter bytes have come: most blobs are small, and many can come at
// once.
const (
	smallRing = 64 << 10
	largeRing = 512 << 10
	fastAfter = 1 << 20
)

// ahead lets one goroutine read while another works on what has come. The
// worker gets every byte as soon as it is free to take it, and large pieces
// when it is the slower one. That pays with TLS, whose reads return one record
// of 16 KiB: to write, hash and announce each of those by itself costs twice as
// much as all the rest.
type ahead struct {
	mu      sync.Mutex
	changed sync.Cond // wakes the one that waits; they never do both
	ring    []byte
	in, out int64 // bytes ever put in and taken out
	err     error // that ended the reading
	stopped bool  // nobody takes any more
}

func newAhead() *ahead {
	a := &ahead{ring: make([]byte, smallRing)}
	a.changed.L = &a.mu
	return a
}

// readFrom puts what r has into the ring, until r ends or pass has returned.
func (a *ahead) readFrom(r io.Reader) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for a.err == nil {
		grow := a.in >= fastAfter && len(a.ring) == smallRing
		for !a.stopped && (a.in-a.out == int64(len(a.ring)) || grow && a.in > a.out) {
			a.changed.Wait()
		}
		if a.stopped {
			return
		}
		if grow {
			a.ring = make([]byte, largeRing)
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

// pass gives what comes to work, half a ring at most at a time, until work
// fails. Without that it returns the error that ended the reading, or nil at
// the end.
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
