package main

import (
	"net"
	"net/http"
	"net/netip"
	"sync"

	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/ratelimit"
)

// What requests may cost bounds the connections that have a request. These numbers
// bound the others. A connection costs 19 KiB, and a new one also the headers that have
// arrived, 64 KiB at most.
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
// closed, and when all together have, the oldest one of the client that has most.
type quiet struct {
	all, client int // limits
	clients     map[string]*quietClient
	of          map[net.Conn]*quietConn
}

// quietClient is the list of a client's connections, the oldest first.
type quietClient struct {
	name           string
	n              int
	oldest, newest *quietConn
}

type quietConn struct {
	net.Conn
	client         *quietClient
	before, behind *quietConn
}

func newConnections(proxies front.Proxies) *connections {
	return &connections{proxies: proxies, new: newQuiet(maxNew, maxNewOfClient), idle: newQuiet(maxIdle, maxIdleOfClient)}
}

func newQuiet(all, client int) quiet {
	return quiet{all: all, client: client, clients: map[string]*quietClient{}, of: map[net.Conn]*quietConn{}}
}

// changed is the ConnState of an http.Server.
func (c *connections) changed(conn net.Conn, state http.ConnState) {
	name, bounded := c.clientOf(conn)
	var excess net.Conn
	c.mu.Lock()
	c.new.remove(c.new.of[conn])
	c.idle.remove(c.idle.of[conn])
	switch state {
	case http.StateNew:
		excess = c.new.add(conn, name, bounded)
	case http.StateIdle:
		excess = c.idle.add(conn, name, bounded)
	case http.StateActive, http.StateHijacked, http.StateClosed:
	}
	c.mu.Unlock()
	if excess != nil {
		_ = excess.Close() // it may be closed already
	}
}

// clientOf names the client at the other end. It is not bounded by itself if many
// others are behind it.
func (c *connections) clientOf(conn net.Conn) (name string, bounded bool) {
	peer, err := netip.ParseAddrPort(conn.RemoteAddr().String())
	if err != nil {
		return "", false // not a network connection
	}
	addr := peer.Addr().Unmap()
	return ratelimit.AddressKey(addr), !c.proxies.Contain(addr)
}

// add returns a connection to close if there are too many.
func (q *quiet) add(conn net.Conn, name string, bounded bool) (excess net.Conn) {
	client := q.clients[name]
	if client == nil {
		client = &quietClient{name: name}
		q.clients[name] = client
	}
	e := &quietConn{Conn: conn, client: client, before: client.newest}
	if e.before == nil {
		client.oldest = e
	} else {
		e.before.behind = e
	}
	client.newest = e
	client.n++
	q.of[conn] = e
	switch {
	case bounded && client.n > q.client:
	case len(q.of) > q.all:
		for _, other := range q.clients {
			if other.n > client.n {
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
	if e.client.n--; e.client.n == 0 {
		delete(q.clients, e.client.name)
	}
}
