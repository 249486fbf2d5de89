package upstream

import (
	"container/list"
	"context"
	"sync"

	"github.com/waveproxy/waveproxy/auth"
)

// defaultConcurrency keeps a host busy across an ocean: at 200 ms an answer,
// 64 at a time are 320 a second.
const defaultConcurrency = 64

// queue bounds how many requests to one host wait for its answer at a time. A
// slot is held from sending a request until the headers of its response are here,
// and not while a body streams, so slow clients hold none. No slot is held
// between the hops of a call, so a call that needs a token from the same host
// cannot wait for itself.
//
// Waiting requests are served in turns among the targets, so that a pipeline with a
// thousand requests does not hold up another, and in order of arrival within one
// target. Waiting costs the waiter's memory and no goroutine; a host without
// requests costs nothing.
type queue struct {
	limit int
	mu    sync.Mutex
	hosts map[string]*line // those with requests under way
}

// line is one host's. Requests wait only while all slots are taken, so it
// exists as long as any slot is.
type line struct {
	taken   int
	turns   list.List                     // of *party, the next one first
	parties map[auth.Target]*list.Element // of turns
}

// party is what waits for one target. It has at least one waiter.
type party struct {
	target  auth.Target
	waiting list.List // of chan struct{}, each closed when it has the slot
}

func newQueue(limit int) *queue { return &queue{limit: limit, hosts: map[string]*line{}} }

// enter waits for a slot, which leave must give back. When the context ends
// first, there is no slot, and the error is the context's cause.
func (q *queue) enter(ctx context.Context, host string, t auth.Target) error {
	q.mu.Lock()
	l := q.hosts[host]
	if l == nil {
		l = &line{parties: map[auth.Target]*list.Element{}}
		q.hosts[host] = l
	}
	if l.taken < q.limit {
		l.taken++
		q.mu.Unlock()
		return nil
	}
	place := l.join(t)
	q.mu.Unlock()
	select {
	case <-place.Value.(chan struct{}):
		return nil
	case <-ctx.Done():
		q.abandon(host, t, place)
		return context.Cause(ctx)
	}
}

// leave gives a slot back.
func (q *queue) leave(host string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.pass(host)
}

// abandon gives up a place, or the slot when that came at the same moment.
func (q *queue) abandon(host string, t auth.Target, place *list.Element) {
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case <-place.Value.(chan struct{}):
		q.pass(host)
	default:
		q.hosts[host].remove(t, place)
	}
}

// pass hands a slot to the next waiter, if there is one.
func (q *queue) pass(host string) {
	l := q.hosts[host]
	if l.next() {
		return
	}
	if l.taken--; l.taken == 0 {
		delete(q.hosts, host)
	}
}

func (l *line) join(t auth.Target) *list.Element {
	e, ok := l.parties[t]
	if !ok {
		e = l.turns.PushBack(&party{target: t})
		l.parties[t] = e
	}
	return e.Value.(*party).waiting.PushBack(make(chan struct{}))
}

func (l *line) remove(t auth.Target, place *list.Element) {
	e := l.parties[t]
	p := e.Value.(*party)
	p.waiting.Remove(place)
	if p.waiting.Len() == 0 {
		l.turns.Remove(e)
		delete(l.parties, t)
	}
}

// next lets the next waiter go, and its party to the end of the line.
func (l *line) next() bool {
	e := l.turns.Front()
	if e == nil {
		return false
	}
	p := e.Value.(*party)
	place := p.waiting.Front()
	l.turns.MoveToBack(e)
	l.remove(p.target, place)
	close(place.Value.(chan struct{}))
	return true
}
