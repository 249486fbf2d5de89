package augment

import (
	"context"

	"github.com/waveproxy/waveproxy/budget"
)

const (
	// maxOverlay bounds what the names of layers that are rewritten take, in bytes. It is
	// less than a client's share of limits.memory.
	maxOverlay = 48 << 20
	// freeOverlay is not charged. A workflow asks for hundreds of small rewrites at once,
	// which wait for their turns.
	freeOverlay = 64 << 10
	overlayStep = 1 << 20 // bytes that are charged at once, at most
)

// heldMemory is memory that grows with the names of layers, charged to the budget of its
// context until it is dropped.
type heldMemory struct {
	ctx     context.Context
	held    int64 // bytes that are charged
	release []func()
}

// grow holds the memory that is needed now. An error is an *Error, or *budget.Exceeded.
func (m *heldMemory) grow(need int64) error {
	for need-freeOverlay > m.held {
		step := min(max(m.held/2, freeOverlay), overlayStep)
		if m.held+step > maxOverlay {
			return Errorf("layers cannot be rewritten: their names need more than %d bytes of memory", maxOverlay)
		}
		release, err := budget.From(m.ctx).Hold(budget.Memory, step)
		if err != nil {
			return err
		}
		m.held += step
		m.release = append(m.release, release)
	}
	return nil
}

// drop gives back the memory that is held.
func (m *heldMemory) drop() {
	for _, release := range m.release {
		release()
	}
	m.held, m.release = 0, nil
}
