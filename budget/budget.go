package budget

import (
	"context"
	"sync"

	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

// Budget is what one request may cost. It is safe for concurrent use: the work
// of a request may be spread over goroutines, and some of it outlives the request
// in a shared flight. The zero Budget and nil have no limits.
type Budget struct {
	ledger *Ledger

	mu     sync.Mutex
	client string
	group  string // "": none
	held   [heldKinds]int64
	spent  [kinds]int64

	// What Enter holds, and the names under which it is charged.
	entered           int64
	byClient, byGroup string
}

// Open returns the Budget of a request of the client, which is in no group.
func (l *Ledger) Open(client string) *Budget { return l.OpenIn(client, "") }

// OpenIn returns the Budget of a request of a client in a group, such as the network
// of its address. All clients of a group together have half of what all have; ""
// is no group.
func (l *Ledger) OpenIn(client, group string) *Budget {
	return &Budget{ledger: l, client: client, group: group}
}

// SetClient names the client and its group anew, once the login is known. What the
// request holds already stays with the names under which it was charged.
func (b *Budget) SetClient(client, group string) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.client, b.group = client, group
}

// Client is the client's name.
func (b *Budget) Client() string {
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.client
}

// Hold charges n of a kind that comes back: release gives it back, and may be
// called more than once. An error is *Exceeded, and then nothing is held.
func (b *Budget) Hold(k Kind, n int64) (release func(), err error) {
	if b == nil || b.ledger == nil || n == 0 {
		return func() {}, nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	client, group := b.client, b.group
	if err := b.ledger.hold(client, group, k, n, b.held[k]); err != nil {
		return nil, err
	}
	b.held[k] += n
	return sync.OnceFunc(func() {
		b.mu.Lock()
		b.held[k] -= n
		b.mu.Unlock()
		b.ledger.release(client, group, k, n)
	}), nil
}

// Enter holds n bytes of Memory until Leave: what a request costs by itself. It is
// called once at most, and is Hold without allocations. An error is *Exceeded.
func (b *Budget) Enter(n int64) error {
	if b == nil || b.ledger == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.ledger.hold(b.client, b.group, Memory, n, b.held[Memory]); err != nil {
		return err
	}
	b.held[Memory] += n
	b.entered, b.byClient, b.byGroup = n, b.client, b.group
	return nil
}

// Leave gives back what Enter holds.
func (b *Budget) Leave() {
	if b == nil || b.ledger == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.entered > 0 {
		b.held[Memory] -= b.entered
		b.ledger.release(b.byClient, b.byGroup, Memory, b.entered)
		b.entered = 0
	}
}

// Spend charges n of a kind that does not come back. An error is *Exceeded, and
// then nothing is charged.
func (b *Budget) Spend(k Kind, n int64) error {
	if b == nil || b.ledger == nil || n == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.ledger.spend(b.client, b.group, k, n, b.spent[k])
	if err == nil {
		b.spent[k] += n
	}
	return err
}

// HoldFor holds n of a kind in the Budget of the context until the context ends.
// An error is *Exceeded, and then nothing is held.
func HoldFor(ctx context.Context, k Kind, n int64) error {
	b := From(ctx)
	if b == nil {
		return nil
	}
	release, err := b.Hold(k, n)
	if err == nil {
		context.AfterFunc(ctx, release)
	}
	return err
}

type contextKey struct{}

// Key is what a context returns the Budget for. Contexts that carry more than a
// Budget answer it themselves.
var Key any = contextKey{}

// With returns a context that carries the Budget.
func With(ctx context.Context, b *Budget) context.Context { return context.WithValue(ctx, Key, b) }

// From returns the Budget of the context, or nil, which has no limits.
func From(ctx context.Context) *Budget {
	b, _ := ctx.Value(Key).(*Budget)
	return b
}

// Client returns the name of the client whose Budget the context has, and "" if it
// has none.
func Client(ctx context.Context) string { return From(ctx).Client() }

// Party returns what the client of the context's Budget is called in queues, which take
// its group in turns first. It is "" without a Budget.
func Party(ctx context.Context) string {
	b := From(ctx)
	if b == nil {
		return ""
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return fairqueue.In(b.group, b.client)
}
