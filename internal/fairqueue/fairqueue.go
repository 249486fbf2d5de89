// Package fairqueue lets a bounded number of parties use a resource at a time,
// and takes those that wait in turns: clients first, then each client's keys, then
// in order of arrival. A client that asks for a thousand things is one party.
package fairqueue

import (
	"container/list"
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
	Waiting   int // requests of one client that may wait for a resource; 0: any number
	// AllWaiting is how many requests of all clients may wait for a resource; 0: any
	// number. The last quarter is for clients of which no other request waits.
	AllWaiting int
}

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

// line is one resource's.
type line struct {
	taken   int
	waiting int
	turns   list.List         // of *party with waiting callers, the next one first
	parties map[string]*party // by client, that have slots or wait
}

// party is one client's.
type party struct {
	client  string
	taken   int
	waiting int
	turn    *list.Element // of line.turns; nil while nothing waits
	keys    list.List     // of *key, the next one first
	byName  map[string]*list.Element
}

// key is what one client asks for under one name. It has at least one place.
type key struct {
	name   string
	places list.List // of *waiter
}

// waiter is work that waits, in the line of each client that wants it.
type waiter struct {
	granted chan struct{} // closed when it has the slot
	party   *party        // that the slot is counted for, once it is granted
	places  []place
	left    bool // it waits no longer, and has no slot
}

// place is a waiter's place in one client's line.
type place struct {
	party   *party
	name    string
	element *list.Element // of the key's places
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
		l = &line{parties: map[string]*party{}}
		q.lines[resource] = l
	}
	p := l.party(client)
	if l.taken < q.options.Slots && p.taken < q.options.PerClient {
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

// room tells whether one more request of the party may wait.
func (o *Options) room(l *line, p *party) error {
	all := o.AllWaiting
	if p.waiting > 0 {
		all -= all / 4
	}
	switch {
	case o.Waiting > 0 && p.waiting >= o.Waiting:
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
	l.forget(p)
	l.next(&q.options)
	if l.taken == 0 && l.turns.Len() == 0 {
		delete(q.lines, resource)
	}
}

func (l *line) party(client string) *party {
	p, ok := l.parties[client]
	if !ok {
		p = &party{client: client, byName: map[string]*list.Element{}}
		l.parties[client] = p
	}
	return p
}

// forget drops a party that has no slot and waits for none.
func (l *line) forget(p *party) {
	if p.taken == 0 && p.waiting == 0 {
		delete(l.parties, p.client)
	}
}

func (l *line) join(w *waiter, p *party, name string) {
	l.waiting++
	p.waiting++
	if p.turn == nil {
		p.turn = l.turns.PushBack(p)
	}
	e, ok := p.byName[name]
	if !ok {
		e = p.keys.PushBack(&key{name: name})
		p.byName[name] = e
	}
	w.places = append(w.places, place{p, name, e.Value.(*key).places.PushBack(w)})
}

// grant counts a slot for the party and gives it to the waiter, which leaves the
// lines of all clients.
func (l *line) grant(w *waiter, p *party) {
	l.taken++
	p.taken++
	w.party = p
	l.drop(w)
	close(w.granted)
}

// drop takes the waiter out of all lines.
func (l *line) drop(w *waiter) {
	for _, at := range w.places {
		l.remove(at)
		l.forget(at.party)
	}
	w.places = nil
}

func (l *line) remove(at place) {
	p := at.party
	e := p.byName[at.name]
	k := e.Value.(*key)
	k.places.Remove(at.element)
	if k.places.Len() == 0 {
		p.keys.Remove(e)
		delete(p.byName, at.name)
	}
	l.waiting--
	if p.waiting--; p.waiting == 0 {
		l.turns.Remove(p.turn)
		p.turn = nil
	}
}

// next gives a free slot to the first party in turn that may have another one,
// and moves that party and the key it was served for to the end.
func (l *line) next(o *Options) {
	if l.taken >= o.Slots {
		return
	}
	for e := l.turns.Front(); e != nil; e = e.Next() {
		p := e.Value.(*party)
		if p.taken >= o.PerClient {
			continue
		}
		front := p.keys.Front()
		l.turns.MoveToBack(e)
		p.keys.MoveToBack(front)
		l.grant(front.Value.(*key).places.Front().Value.(*waiter), p)
		return
	}
}
