package unpack

import (
	"context"
	"errors"
	"io"
	"runtime"
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

const (
	// slice is how long an archive is unpacked before the others have their turns.
	slice = 50 * time.Millisecond
	// patience is how long an archive waits for its first turn, and retryAfter when
	// a refused one may come again.
	patience   = 30 * time.Second
	retryAfter = 5 * time.Second
	// A pipeline may submit a thousand images at once.
	waiting    = 1024
	allWaiting = 4096
)

// processors has a slot for each archive that may be unpacked at a time.
var processors = newPool(runtime.GOMAXPROCS(0))

// pool hands out turns.
type pool struct {
	queue            *fairqueue.Queue
	slots, perClient int
}

func newPool(slots int) *pool {
	p := &pool{slots: slots, perClient: max(1, slots/2)}
	p.queue = fairqueue.New(fairqueue.Options{Slots: slots, PerClient: p.perClient, Waiting: waiting, AllWaiting: allWaiting})
	return p
}

// Turn is the right to unpack one archive. It belongs to one goroutine.
type Turn struct {
	ctx   context.Context
	pool  *pool
	leave func() // nil while the turn is not held
	since time.Time

	weight int64  // bytes that are charged when the archive waits for a further turn
	parked func() // gives them back; nil while they are not charged
}

// New returns a Turn in the name of the clients that want the context's work. It is
// not held yet.
func New(ctx context.Context) *Turn { return newTurn(ctx, processors) }

func newTurn(ctx context.Context, p *pool) *Turn {
	return &Turn{ctx: ctx, pool: p}
}

// clients tells joined of those that want the work.
func (t *Turn) clients(joined func(client string)) (stop func()) { return budget.Watch(t.ctx, joined) }

// Enter waits until the archive may be unpacked; Leave must follow. An error is
// *budget.Exceeded if too many wait or the turn does not come in time, or the
// context's.
func (t *Turn) Enter() error {
	ctx, cancel := context.WithTimeout(t.ctx, patience)
	defer cancel()
	leave, err := t.pool.queue.EnterFor(ctx, "", t.clients, "")
	switch {
	case err == nil:
		t.leave, t.since = leave, time.Now()
		return nil
	case errors.Is(err, fairqueue.ErrFull):
		return &budget.Exceeded{Kind: budget.Unpacking, Scope: budget.OfClient, Limit: int64(t.pool.perClient), RetryAfter: retryAfter}
	case t.ctx.Err() != nil:
		return t.ctx.Err()
	}
	return &budget.Exceeded{Kind: budget.Unpacking, Scope: budget.OfAll, Limit: int64(t.pool.slots), RetryAfter: retryAfter}
}

// Queue waits for a slot of another queue in the name of the same clients, which
// must be given back. It is called before Enter.
func (t *Turn) Queue(q *fairqueue.Queue) (leave func(), err error) {
	if leave, err = q.EnterFor(t.ctx, "", t.clients, ""); err != nil && t.ctx.Err() != nil {
		err = t.ctx.Err()
	}
	return leave, err
}

// Hold charges the request with n bytes of memory, which release gives back. An error is
// *budget.Exceeded.
func (t *Turn) Hold(n int64) (release func(), err error) {
	return budget.From(t.ctx).Hold(budget.Memory, n)
}

// Leave gives the turn back, if it is held, and what the archive holds in memory.
func (t *Turn) Leave() {
	t.pause()
	if t.parked != nil {
		t.parked()
		t.parked = nil
	}
}

// pause gives the turn back, if it is held. The archive goes on in another one.
func (t *Turn) pause() {
	if t.leave != nil {
		t.leave()
		t.leave = nil
	}
}

// park charges what an archive that has been begun keeps while it waits. Small ones end
// in their first turn and are never charged, so that hundreds of them may come at once.
func (t *Turn) park() (err error) {
	if t.parked == nil && t.weight > 0 {
		t.parked, err = t.Hold(t.weight)
	}
	return err
}

// again waits for a turn that was held before.
func (t *Turn) again() error {
	leave, err := t.pool.queue.Again(t.ctx, "", t.clients, "")
	if err != nil {
		return t.ctx.Err() // nothing else ends the wait
	}
	t.leave, t.since = leave, time.Now()
	return nil
}

// Share lets the others have their turns, once the slice is used up. An error is
// *budget.Exceeded, or the context's.
func (t *Turn) Share() error {
	if t.leave == nil || time.Since(t.since) < slice {
		return nil
	}
	if err := t.park(); err != nil {
		return err
	}
	t.pause()
	if err := t.ctx.Err(); err != nil {
		return err
	}
	return t.again()
}

// Inside returns r, which is at hand. Others have their turns while it is read, even
// if it unpacks to nothing: a stream may be a million empty ones.
func (t *Turn) Inside(r io.Reader) *Source { return &Source{ctx: t.ctx, r: inside{t, r}} }

type inside struct {
	turn *Turn
	r    io.Reader
}

func (i inside) Read(p []byte) (int, error) {
	if err := i.turn.Share(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// Outside returns r, which comes from the network: while it is read, the turn is
// not held.
func (t *Turn) Outside(r io.Reader) *Source { return &Source{ctx: t.ctx, r: outside{t, r}} }

type outside struct {
	turn *Turn
	r    io.Reader
}

func (o outside) Read(p []byte) (int, error) {
	if o.turn.leave == nil {
		return o.r.Read(p)
	}
	o.turn.pause()
	n, err := o.r.Read(p)
	if again := o.turn.again(); again != nil {
		return 0, again
	}
	return n, err
}
