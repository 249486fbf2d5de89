package main

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"

	"github.com/waveproxy/waveproxy/front"
)

// remote is a connection of an address.
type remote struct {
	net.Conn
	addr   string
	closed bool
}

func (r *remote) RemoteAddr() net.Addr { return addr(r.addr) }
func (r *remote) Close() error         { r.closed = true; return nil }

type addr string

func (addr) Network() string  { return "tcp" }
func (a addr) String() string { return string(a) }

// TestConnections: connections without a request are bounded in all and by client, and
// the oldest one of the client with most of them goes first.
func TestConnections(t *testing.T) {
	c := newConnections(front.Proxies{netip.MustParsePrefix("10.0.0.0/8")})
	c.new = newQuiet(12, 8)
	c.idle = newQuiet(6, 3)
	come := func(address string, port int, state http.ConnState) *remote {
		r := &remote{addr: fmt.Sprintf("%s:%d", address, port)}
		c.changed(r, http.StateNew)
		if state != http.StateNew {
			c.changed(r, http.StateActive)
			c.changed(r, state)
		}
		return r
	}
	open := func(all []*remote) (n int) {
		for _, r := range all {
			if !r.closed {
				n++
			}
		}
		return n
	}
	for _, test := range []struct {
		address string
		state   http.ConnState
		want    int
	}{
		{"192.0.2.1", http.StateNew, 8},
		{"[2001:db8::1]", http.StateNew, 8},
		{"10.1.2.3", http.StateNew, 12}, // a proxy
		{"192.0.2.1", http.StateIdle, 3},
		{"10.1.2.3", http.StateIdle, 6},
		{"192.0.2.1", http.StateActive, 20}, // budgets bound these
	} {
		var all []*remote
		for i := range 20 {
			all = append(all, come(test.address, 1+i, test.state))
		}
		if n := open(all); n != test.want || open(all[20-test.want:]) != n {
			t.Errorf("%s keeps %d connections in state %s, want the last %d", test.address, n, test.state, test.want)
		}
		for _, r := range all {
			c.changed(r, http.StateClosed)
		}
	}
	var greedy []*remote
	for i := range 8 {
		greedy = append(greedy, come("192.0.2.1", 1+i, http.StateNew))
	}
	var others []*remote
	for i := range 8 {
		others = append(others, come(fmt.Sprintf("198.51.100.%d", i), 1, http.StateNew))
	}
	if open(others) != 8 || open(greedy) != 4 || open(greedy[4:]) != 4 {
		t.Errorf("of a greedy client %d connections stay, of others %d", open(greedy), open(others))
	}
	for _, r := range append(greedy, others...) {
		c.changed(r, http.StateClosed)
	}
	if len(c.new.of)+len(c.new.clients)+len(c.idle.of)+len(c.idle.clients) != 0 {
		t.Error("closed connections are kept")
	}
}

// TestConnectionsOfManyClients: whoever comes has a turn, however many clients or networks
// hold connections that they do not use.
func TestConnectionsOfManyClients(t *testing.T) {
	for name, address := range map[string]func(i int) string{
		"addresses":          func(i int) string { return fmt.Sprintf("198.51.%d.%d:1", i/250, i%250) },
		"networks of a site": func(i int) string { return fmt.Sprintf("[2001:db8:1:%x::1]:1", i) },
		"sites":              func(i int) string { return fmt.Sprintf("[2001:db8:%x::1]:1", i) },
		"two from each":      func(i int) string { return fmt.Sprintf("198.51.100.%d:%d", i/2, i) },
		"a site and addresses": func(i int) string {
			return []string{fmt.Sprintf("[2001:db8:1:%x::1]:1", i), fmt.Sprintf("198.51.%d.%d:1", i/250, i%250)}[i%2]
		},
	} {
		for _, state := range []http.ConnState{http.StateNew, http.StateIdle} {
			c := newConnections(nil)
			c.new, c.idle = newQuiet(40, 20), newQuiet(40, 20)
			var all []*remote
			come := func(address string) *remote {
				r := &remote{addr: address}
				c.changed(r, http.StateNew)
				c.changed(r, state)
				all = append(all, r)
				return r
			}
			for i := range 400 {
				come(address(i))
			}
			for i := range 30 { // round trips of honest clients
				honest := come(fmt.Sprintf("192.0.2.%d:1", i))
				for j := range 10 {
					come(address(400 + 10*i + j))
				}
				if honest.closed {
					t.Fatalf("%s: connection %d of another client was closed", name, i)
				}
				c.changed(honest, http.StateActive)
			}
			for _, r := range all {
				c.changed(r, http.StateClosed)
			}
			if len(c.new.of)+len(c.new.clients)+len(c.new.networks)+len(c.idle.of)+len(c.idle.networks) != 0 {
				t.Errorf("%s: closed connections are kept", name)
			}
		}
	}
}

// TestUnreadUploads: what handlers do not read of bodies over HTTP/2 costs little.
func TestUnreadUploads(t *testing.T) {
	h := newServer(nil, slog.New(slog.DiscardHandler)).HTTP2
	for _, n := range []int{h.MaxReceiveBufferPerConnection, h.MaxReceiveBufferPerStream, h.MaxReadFrameSize} {
		if n <= 0 || n > 64<<10 {
			t.Errorf("%d bytes are kept", n)
		}
	}
}
