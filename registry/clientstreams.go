package registry

import (
	"context"
	"errors"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

const (
	// streamCost is what sending a blob costs in memory beside the request itself, in
	// bytes: a connection to the upstream with its goroutines, headers and buffers.
	streamCost = 64 << 10

	// A cluster behind one address may ask for more blobs at once than it may have.
	// The others wait: engines repeat a refused request at once, and then give up.
	streamWait = 20 * time.Second
	streamLook = 250 * time.Millisecond
)

// holdStream charges the client for one blob that is sent to it, before anything is
// done for that. release gives the charge back. When the client, or all, have too many,
// it waits until others have ended, streamWait at most. Errors are *budget.Exceeded and
// the cause of a context that ended.
func holdStream(ctx context.Context) (release func(), err error) {
	b := budget.From(ctx)
	for until := time.Now().Add(streamWait); ; {
		release, err := chargeStream(b)
		e, isFull := errors.AsType[*budget.Exceeded](err)
		if !isFull || e.Scope == budget.OfRequest || !time.Now().Before(until) {
			return release, err
		}
		select {
		case <-time.After(streamLook):
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func chargeStream(b *budget.Budget) (release func(), err error) {
	count, err := b.Hold(budget.Streams, 1)
	if err != nil {
		return nil, err
	}
	memory, err := b.Hold(budget.Memory, streamCost)
	if err != nil {
		count()
		return nil, err
	}
	return func() { memory(); count() }, nil
}
