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
// context until it is released.
type heldMemory struct{ *budget.Holding }

func holdMemory(ctx context.Context) heldMemory {
	return heldMemory{budget.From(ctx).Holding(budget.Memory)}
}

// grow holds the memory that is needed now. An error is an *Error, or *budget.Exceeded.
func (m heldMemory) grow(need int64) error {
	for need-freeOverlay > m.Held() {
		step := min(max(m.Held()/2, freeOverlay), overlayStep)
		if m.Held()+step > maxOverlay {
			return Errorf("layers cannot be rewritten: their names need more than %d bytes of memory", maxOverlay)
		}
		if err := m.Grow(step); err != nil {
			return err
		}
	}
	return nil
}
