package main

import (
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// What requests may cost bounds the connections that have a request. These numbers
// bound the others. A connection costs 19 KiB, and while headers arrive also what it has
// of them, some 80 KiB at most (headListener).
const (
	// A cluster behind one address may connect at once. A connection is new for some
	// round trips, and for 10 seconds at most.
	maxNew         = 1536
	maxNewOfClient = 1024
	// Clients connect again when an idle connection is closed.
	maxIdle         = 1024
	maxIdleOfClient = 256
)

// connections bounds the connections that have no request. It is safe for concurrent
// use.
type connections struct {
	proxies front.Proxies // behind which many clients are

	mu        sync.Mutex
	new, idle quiet
}

// quiet is a bounded set of connections. When a client has too many, its oldest one is
// closed, and when all together have, the oldest one of the client that has most, in the
// network that has most. Among equals it is the oldest one of all, which has had its time:
// a connection that has just come is never closed for those that are there.
type quiet struct {
	all, client int // limits
	clients     map[string]*quietClient
	networks    map[string]int // connections of each network; clients without one are their own
	of          map[net.Conn]*quietConn
	came        uint64
}

// quietClient is the list of a client's connections, the oldest first.
type quietClient struct {
	name, network  string
	n              int
	oldest, newest *quietConn
}

type quietConn struct {
	net.Conn
	client         *quietClient
	number         uint64 // in the order in which they came
	before, behind *quietConn
}

func newConnections(proxies front.Proxies) *connections {
	return &connections{proxies: proxies, new: newQuiet(maxNew, maxNewOfClient), idle: newQuiet(maxIdle, maxIdleOfClient)}
}

func newQuiet(all, client int) quiet {
	return quiet{all: all, client: client, clients: map[string]*quietClient{}, networks: map[string]int{}, of: map[net.Conn]*quietConn{}}
}

// changed is the ConnState of an http.Server.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	client, bounded := c.clientOf(conn)
	if heads, ok := conn.(interface{ begin() }); ok && (state == http.StateNew || state == http.StateIdle) {
		heads.begin()
	}
	var excess net.Conn
	c.mu.Lock()
	c.new.remove(c.new.of[conn])
	c.idle.remove(c.idle.of[conn])
	switch state {
	case http.StateNew:
		excess = c.new.add(conn, client, bounded)
	case http.StateIdle:
		excess = c.idle.add(conn, client, bounded)
	case http.StateActive, http.StateHijacked, http.StateClosed:
	}
	c.mu.Unlock()
	if excess != nil {
		_ = excess.Close() // it may be closed already
	}
}

// clientOf names the client at the other end. It is not bounded by itself if many
// others are behind it.
func (c *connections) clientOf(conn net.Conn) (client quietClient, bounded bool) {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return quietClient{}, false // not a network connection
	}
	addr := peer.Addr().Unmap()
	name := ratelimit.AddressKey(addr)
	return quietClient{name: name, network: cmp.Or(ratelimit.NetworkKey(addr), name)}, !c.proxies.Contain(addr)
}

// add returns a connection to close if there are too many.
func (q *quiet) add(conn net.Conn, of quietClient, bounded bool) (excess net.Conn) {
	client := q.clients[of.name]
	if client == nil {
		client = &of
		q.clients[of.name] = client
	}
	q.came++
	e := &quietConn{Conn: conn, client: client, number: q.came, before: client.newest}
	if e.before == nil {
		client.oldest = e
	} else {
		e.before.behind = e
	}
	client.newest = e
	client.n++
	q.networks[client.network]++
	q.of[conn] = e
	switch {
	case bounded && client.n > q.client:
	case len(q.of) > q.all:
		for _, other := range q.clients {
			if q.before(other, client) {
				client = other
			}
		}
	default:
		return nil
	}
	excess = client.oldest.Conn
	q.remove(client.oldest)
	return excess
}

// before reports whether a connection of a is closed rather than one of b.
func (q *quiet) before(a, b *quietClient) bool {
	return cmp.Or(
		cmp.Compare(q.networks[b.network], q.networks[a.network]),
		cmp.Compare(b.n, a.n),
		cmp.Compare(a.oldest.number, b.oldest.number),
	) < 0
}

func (q *quiet) remove(e *quietConn) {
	if e == nil {
		return
	}
	delete(q.of, e.Conn)
	if e.before != nil {
		e.before.behind = e.behind
	} else {
		e.client.oldest = e.behind
	}
	if e.behind != nil {
		e.behind.before = e.before
	} else {
		e.client.newest = e.before
	}
	if q.networks[e.client.network]--; q.networks[e.client.network] == 0 {
		delete(q.networks, e.client.network)
	}
	if e.client.n--; e.client.n == 0 {
		delete(q.clients, e.client.name)
	}
}
