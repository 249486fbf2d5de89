package fairqueue

import (
	"container/list"
	"strings"
)

// line is one resource's.
type line struct {
	taken   int
	waiting int
	turns   list.List         // of *group with waiting callers, the next one first
	groups  map[string]*group // that have slots or wait
	parties map[string]*party // by client, that have slots or wait
}

// group is one group's, or that of one client that is in none.
type group struct {
	name    string
	single  bool
	members int
	taken   int
	waiting int
	turn    *list.Element // of line.turns; nil while nothing waits
	turns   list.List     // of *party with waiting callers, the next one first
}

// party is one client's.
type party struct {
	client  string
	group   *group
	taken   int
	waiting int
	turn    *list.Element // of group.turns; nil while nothing waits
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

func (l *line) party(client string) *party {
	p, ok := l.parties[client]
	if !ok {
		name, _, grouped := strings.Cut(client, groupEnd)
		if grouped {
			name += groupEnd // no client has the name of a group
		}
		g := l.groups[name]
		if g == nil {
			g = &group{name: name, single: !grouped}
			l.groups[name] = g
		}
		g.members++
		p = &party{client: client, group: g, byName: map[string]*list.Element{}}
		l.parties[client] = p
	}
	return p
}

// forget drops a party that has no slot and waits for none.
func (l *line) forget(p *party) {
	if p.taken > 0 || p.waiting > 0 || l.parties[p.client] != p {
		return
	}
	delete(l.parties, p.client)
	if p.group.members--; p.group.members == 0 {
		delete(l.groups, p.group.name)
	}
}

func (l *line) join(w *waiter, p *party, name string) {
	l.waiting++
	p.waiting++
	p.group.waiting++
	if p.turn == nil {
		p.turn = p.group.turns.PushBack(p)
	}
	if p.group.turn == nil {
		p.group.turn = l.turns.PushBack(p.group)
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
	p.group.taken++
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
		p.group.turns.Remove(p.turn)
		p.turn = nil
	}
	if p.group.waiting--; p.group.waiting == 0 {
		l.turns.Remove(p.group.turn)
		p.group.turn = nil
	}
}

// next gives a free slot to the first party in turn that may have another one, of the
// first group in turn, and moves both and the key that was served to the end.
func (l *line) next(o *Options) {
	for at := l.turns.Front(); at != nil && l.taken < o.Slots; at = at.Next() {
		for e := at.Value.(*group).turns.Front(); e != nil; e = e.Next() {
			p := e.Value.(*party)
			if !o.mayHave(l, p) {
				continue
			}
			front := p.keys.Front()
			l.turns.MoveToBack(at)
			p.group.turns.MoveToBack(e)
			p.keys.MoveToBack(front)
			l.grant(front.Value.(*key).places.Front().Value.(*waiter), p)
			return
		}
	}
}
