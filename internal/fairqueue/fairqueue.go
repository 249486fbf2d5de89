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
	places list.List // of chan struct{}, each closed when it has the slot
}

// Idle reports whether no slot of any resource is taken. Nothing waits then either.
func (q *Queue) Idle() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.lines) == 0
}

// Enter waits for a slot of the resource, which leave must give back; leave may be
// called more than once. When the context ends first, there is no slot and the
// error is the context's cause. ErrFull and ErrAllFull come at once.
func (q *Queue) Enter(ctx context.Context, resource, client, name string) (leave func(), err error) {
	return q.enter(ctx, resource, client, name, true)
}

// Again is Enter for work that was begun and had given its slot back, to let others
// have their turns: it is never refused for want of room to wait.
func (q *Queue) Again(ctx context.Context, resource, client, name string) (leave func(), err error) {
	return q.enter(ctx, resource, client, name, false)
}

func (q *Queue) enter(ctx context.Context, resource, client, name string, bounded bool) (leave func(), err error) {
	q.mu.Lock()
	l := q.lines[resource]
	if l == nil {
		l = &line{parties: map[string]*party{}}
		q.lines[resource] = l
	}
	p := l.party(client)
	leave = sync.OnceFunc(func() { q.leave(resource, client) })
	if l.taken < q.options.Slots && p.taken < q.options.PerClient {
		l.taken++
		p.taken++
		q.mu.Unlock()
		return leave, nil
	}
	if err := q.options.room(l, p); bounded && err != nil {
		l.forget(p)
		q.mu.Unlock()
		return nil, err
	}
	place := l.join(p, name)
	q.mu.Unlock()
	granted := place.Value.(chan struct{})
	select {
	case <-granted:
		return leave, nil
	case <-ctx.Done():
		q.abandon(l, p, name, place, leave)
		return nil, context.Cause(ctx)
	}
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

// abandon gives up a place, or the slot when that came at the same moment.
func (q *Queue) abandon(l *line, p *party, name string, place *list.Element, leave func()) {
	q.mu.Lock()
	select {
	case <-place.Value.(chan struct{}):
		q.mu.Unlock()
		leave()
	default:
		l.remove(p, name, place)
		l.forget(p)
		q.mu.Unlock()
	}
}

func (q *Queue) leave(resource, client string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	l := q.lines[resource]
	p := l.parties[client]
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

func (l *line) join(p *party, name string) *list.Element {
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
	return e.Value.(*key).places.PushBack(make(chan struct{}))
}

func (l *line) remove(p *party, name string, place *list.Element) {
	e := p.byName[name]
	k := e.Value.(*key)
	k.places.Remove(place)
	if k.places.Len() == 0 {
		p.keys.Remove(e)
		delete(p.byName, name)
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
	for e := l.turns.Front(); e != nil && l.taken < o.Slots; e = e.Next() {
		p := e.Value.(*party)
		if p.taken >= o.PerClient {
			continue
		}
		front := p.keys.Front()
		k := front.Value.(*key)
		place := k.places.Front()
		l.turns.MoveToBack(e)
		p.keys.MoveToBack(front)
		l.remove(p, k.name, place)
		l.taken++
		p.taken++
		close(place.Value.(chan struct{}))
		return
	}
}
