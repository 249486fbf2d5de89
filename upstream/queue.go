package upstream

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

const (
	// defaultConcurrency keeps a host busy across an ocean: at 200 ms an answer,
	// 64 at a time are 320 a second.
	defaultConcurrency = 64

	// Requests that wait cost memory. As many as this are answered within the time
	// that a call may take, or far more than a cluster behind one address sends.
	maxWaiting    = 4096 // of one client, for one host
	maxAllWaiting = 16384
	fullRetry     = 5 * time.Second
)

// queue bounds how many requests to one host wait for its answer at a time. A
// slot is held from sending a request until the headers of its response are here,
// and not while a body streams, so slow clients hold none. No slot is held
// between the hops of a call, so a call that needs a token from the same host
// cannot wait for itself.
//
// Waiting requests are served in turns among the clients, so that a client that asks
// for a thousand names does not hold up another. A client or a group has half of the
// slots at most, because a host may be slow to answer some names, and the last quarter
// is for clients that have none. A request that several clients want
// (budget.Shared) has the turn of the first of them. Those of one client are served in
// turns among the targets, and in order of arrival within one target. Waiting costs
// the waiter's memory and no goroutine; a host without requests costs nothing.
type queue struct {
	limit int
	fair  *fairqueue.Queue
}

func newQueue(limit int) *queue {
	o := fairqueue.Options{Slots: limit, Waiting: maxWaiting, AllWaiting: maxAllWaiting}
	if limit >= 4 { // fewer are too few to be shared out
		o.PerClient, o.Newcomers = limit/2, limit/4
	}
	return &queue{limit, fairqueue.New(o)}
}

// enter waits for a slot, which leave must give back. When the context ends
// first, there is no slot, and the error has errQueued and the context's cause. When
// too many wait, it is *budget.Exceeded.
func (q *queue) enter(ctx context.Context, host string, t auth.Target) (leave func(), err error) {
	leave, err = q.fair.EnterFor(ctx, host, parties(ctx, t), strconv.Quote(t.Identity)+t.Registry+"/"+t.Repository)
	switch {
	case err == nil:
		return leave, nil
	case errors.Is(err, fairqueue.ErrFull):
		return nil, &budget.Exceeded{Kind: budget.Questions, Scope: budget.OfClient, Limit: maxWaiting, RetryAfter: fullRetry}
	case errors.Is(err, fairqueue.ErrAllFull):
		return nil, &budget.Exceeded{Kind: budget.Questions, Scope: budget.OfAll, Limit: maxAllWaiting, RetryAfter: fullRetry}
	}
	return nil, fmt.Errorf("%w: %w", errQueued, err)
}

// parties are those whose turn it may be: the clients that want the request, or
// without one the identity, which is then a recipe's or the operator's.
func parties(ctx context.Context, t auth.Target) fairqueue.Clients {
	return func(joined func(party string)) (stop func()) {
		return budget.Watch(ctx, func(client string) {
			if client == "" {
				joined("identity " + t.Identity)
			} else {
				joined("client " + client)
			}
		})
	}
}
