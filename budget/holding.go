package budget

// Holding is an amount of one kind that grows with the work and comes back in one piece.
// One goroutine uses it.
type Holding struct {
	budget   *Budget
	kind     Kind
	held     int64
	releases []func()
}

// Holding returns one that holds nothing yet.
func (b *Budget) Holding(k Kind) *Holding { return &Holding{budget: b, kind: k} }

// Grow holds n more. An error is *Exceeded, and then what was held before still is.
func (h *Holding) Grow(n int64) error {
	release, err := h.budget.Hold(h.kind, n)
	if err != nil {
		return err
	}
	h.held += n
	h.releases = append(h.releases, release)
	return nil
}

// Held is the amount that is held.
func (h *Holding) Held() int64 { return h.held }

// Release gives it back. The Holding can grow again.
func (h *Holding) Release() {
	for _, release := range h.releases {
		release()
	}
	h.held, h.releases = 0, nil
}
