// Package fairqueue lets a bounded number of parties use a resource at a time,
// and takes those that wait in turns: groups of clients first, then the clients of a
// group, then each client's keys, then in order of arrival. A client that asks for a
// thousand things is one party, and so is a network with a thousand clients.
//
// Files: fairqueue.go (Queue), line.go (those that wait for one resource).
package fairqueue

import (
	"context"
	"errors"
	"sync"
)

// ErrFull says that the client has too many requests waiting, ErrAllFull that all
// clients together have.
var (
	ErrFull    = errors.New("too many requests of this client are waiting")
	ErrAllFull = errors.New("too many requests are waiting")
)

// Options bound a Queue.
type Options struct {
	Slots     int // that a resource has
	PerClient int // of them that one client may have; 0: all
	// Newcomers is how many of the slots are for clients that have none, the last ones.
	Newcomers int
	Waiting   int // requests of one client that may wait for a resource; 0: any number
	// AllWaiting is how many requests of all clients may wait for a resource; 0: any
	// number. The last quarter is for clients of which few other requests wait. A group
	// may have half.
	AllWaiting int
}

// groupEnd ends the name of a group before that of its client.
const groupEnd = "\x00group\x00" // some names are hashes

// In returns what a client of a group is called in queues: a group, if it is not "",
// takes turns as one client, and has at most half of the slots, or what one client may
// have.
func In(group, client string) string {
	if group == "" {
		return client
	}
	return group + groupEnd + client
}

// few is how many requests a new client may have waiting: a pull is several at a time.
func (o *Options) few() int { return min(max(o.AllWaiting/64, 1), 16) }

// perGroup is how many slots a group may have.
func (o *Options) perGroup() int { return max(o.Slots/2, o.PerClient) }

// Queue hands out the slots of any number of resources, each known by a name.
// Waiting costs the waiter's memory and no goroutine. A resource that is not in
// use costs nothing. It is safe for concurrent use.
type Queue struct {
	options Options
	mu      sync.Mutex
	lines   map[string]*line // of resources in use
}

// New returns a Queue.
func New(o Options) *Queue {
	if o.PerClient == 0 {
		o.PerClient = o.Slots
	}
	return &Queue{options: o, lines: map[string]*line{}}
}

// Idle reports whether no slot of any resource is taken. Nothing waits then either.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lines) == 0
}

// Clients are the clients that want the same work. Each of them is told to joined,
// at once or, until stop is called, when it comes to want the work.
type Clients func(joined func(client string)) (stop func())

// Enter waits for a slot of the resource, which leave must give back; leave may be
// called more than once. When the context ends first, there is no slot and the
// error is the context's cause. ErrFull and ErrAllFull come at once.
func (q *Queue) Enter(ctx context.Context, resource, client, name string) (leave func(), err error) {
	return q.enter(ctx, resource, one(client), name, true)
}

// EnterFor is Enter for work that several clients want: it waits in the line of
// each, and has the slot when the first of them has its turn. So clients that join
// the work of another one do not wait behind all that this one has asked for.
// ErrFull and ErrAllFull come only if no client that is told at once has room.
func (q *Queue) EnterFor(ctx context.Context, resource string, clients Clients, name string) (leave func(), err error) {
	return q.enter(ctx, resource, clients, name, true)
}

// Again is EnterFor for work that was begun and had given its slot back, to let
// others have their turns: it is never refused for want of room to wait.
func (q *Queue) Again(ctx context.Context, resource string, clients Clients, name string) (leave func(), err error) {
	return q.enter(ctx, resource, clients, name, false)
}

func one(client string) Clients {
	return func(joined func(string)) func() {
		joined(client)
		return func() {}
	}
}

func (q *Queue) enter(ctx context.Context, resource string, clients Clients, name string, bounded bool) (leave func(), err error) {
	w := &waiter{granted: make(chan struct{})}
	var refused error // guarded by the mutex
	stop := clients(func(client string) {
		q.mu.Lock()
		defer q.mu.Unlock()
		if err := q.add(w, resource, client, name, bounded); refused == nil {
			refused = err
		}
	})
	defer stop()
	q.mu.Lock()
	if w.party == nil && len(w.places) == 0 {
		defer q.mu.Unlock()
		w.left = true
		return nil, refused
	}
	q.mu.Unlock()
	leave = sync.OnceFunc(func() { q.leave(resource, w.party) })
	select {
	case <-w.granted:
		return leave, nil
	default:
	}
	select {
	case <-w.granted:
		return leave, nil
	case <-ctx.Done():
		q.abandon(resource, w, leave)
		return nil, context.Cause(ctx)
	}
}

// add gives the waiter a slot, or a place in the client's line. It does nothing for
// a waiter that has its slot or waits no longer.
func (q *Queue) add(w *waiter, resource, client, name string, bounded bool) error {
	if w.party != nil || w.left {
		return nil
	}
	l := q.lines[resource]
	if l == nil {
		l = &line{groups: map[string]*group{}, parties: map[string]*party{}}
		q.lines[resource] = l
	}
	p := l.party(client)
	if q.options.mayHave(l, p) {
		l.grant(w, p)
		return nil
	}
	if err := q.options.room(l, p); bounded && err != nil {
		l.forget(p)
		return err
	}
	l.join(w, p, name)
	return nil
}

// mayHave reports whether the party may have another slot now.
func (o *Options) mayHave(l *line, p *party) bool {
	free := o.Slots - l.taken
	if p.taken > 0 {
		free -= o.Newcomers
	}
	return free > 0 && p.taken < o.PerClient && (p.group.single || p.group.taken < o.perGroup())
}

// room tells whether one more request of the party may wait.
func (o *Options) room(l *line, p *party) error {
	all := o.AllWaiting
	if p.waiting >= o.few() {
		all -= all / 4
	}
	switch {
	case o.Waiting > 0 && p.waiting >= o.Waiting:
		return ErrFull
	case o.AllWaiting > 0 && !p.group.single && p.group.waiting >= o.AllWaiting/2:
		return ErrFull
	case o.AllWaiting > 0 && l.waiting >= all:
		return ErrAllFull
	}
	return nil
}

// abandon gives up all places, or the slot when that came at the same moment.
func (q *Queue) abandon(resource string, w *waiter, leave func()) {
	q.mu.Lock()
	w.left = true
	if w.party == nil {
		q.lines[resource].drop(w)
		q.mu.Unlock()
		return
	}
	q.mu.Unlock()
	leave()
}

func (q *Queue) leave(resource string, p *party) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[resource]
	l.taken--
	p.taken--
	p.group.taken--
	l.forget(p)
	l.next(&q.options)
	if l.taken == 0 && l.turns.Len() == 0 {
		delete(q.lines, resource)
	}
}
