package augment

import (
	"context"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

// during has the placer charge what it remembers, share the turn and end with the context.
func (p *placing) during(ctx context.Context, turn *unpack.Turn) {
	if p.placer == nil {
		return
	}
	p.placer.During(func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := p.memory.grow(p.placer.Bytes()); err != nil {
			return err
		}
		return turn.Share()
	})
}

// begin begins a layer of a pass. Finding where its markers belong takes a turn. No turn may be
// held.
func (p *placing) begin(ctx context.Context, layer int) error {
	if p.placer == nil {
		return nil
	}
	turn := unpack.New(ctx)
	if !p.indexes[layer].Simple() {
		if err := turn.Enter(); err != nil {
			return err
		}
		defer turn.Leave()
	}
	p.during(ctx, turn)
	if err := p.placer.Layer(p.indexes[layer]); err != nil {
		return asLanding(err)
	}
	return p.memory.grow(p.placer.Bytes())
}
