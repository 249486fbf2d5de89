package upstreamtest

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Pauses records pauses and skips them. It is safe for concurrent use.
type Pauses struct {
	mu  sync.Mutex
	all []time.Duration
}

// Wait is for upstream.Options.Wait. It returns at once.
func (p *Pauses) Wait(ctx context.Context, pause time.Duration) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, pause)
	return ctx.Err()
}

// All returns the pauses so far, in their order.
func (p *Pauses) All() []time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.all)
}
