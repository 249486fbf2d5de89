package upstream

import (
	"context"
	"encoding/binary"
	"net"
	"syscall"
	"testing"

	"github.com/waveproxy/waveproxy/auth"
)

// nameServer answers every A query with the addresses, one query after the
// other, and NXDOMAIN when there are none.
func nameServer(t *testing.T, addresses ...[4]byte) *net.Resolver {
	t.Helper()
	return resolver(t, func(query []byte) []byte { return answer(query, addresses) })
}

// resolver is a DNS server on loopback that answers with what the function returns.
func resolver(t *testing.T, answer func(query []byte) []byte) *net.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answer(buf[:n]), from)
		}
	}()
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp", conn.LocalAddr().String())
	}}
}

// answer keeps the header and the question of a query (RFC 1035, section 4).
func answer(query []byte, addresses [][4]byte) []byte {
	end := 12
	for query[end] != 0 {
		end += int(query[end]) + 1
	}
	isA := binary.BigEndian.Uint16(query[end+1:]) == 1
	out := append([]byte(nil), query[:end+5]...)
	copy(out[2:], []byte{0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0})
	if len(addresses) == 0 {
		out[3] |= 3 // NXDOMAIN
	}
	if !isA {
		return out
	}
	for _, a := range addresses {
		out = append(out, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		out = append(out, a[:]...)
		out[7]++
	}
	return out
}

func TestNames(t *testing.T) {
	s := newServer(t, serveManifest)
	_, port, _ := net.SplitHostPort(s.Host())
	host := "registry.invalid:" + port
	target := auth.Target{Registry: host, Repository: "team/app"}

	t.Run("no such host", func(t *testing.T) {
		c, delays := newClient(t, Options{})
		c.hops.guard.public.Resolver = nameServer(t)
		e := wantError(t, manifestError(t, c, target), Unresolvable, "registry.invalid", "no such host")
		if e.Host != host || len(delays.All()) != 0 {
			t.Errorf("host %s after %d retries", e.Host, len(delays.All()))
		}
	})
	t.Run("no DNS", func(t *testing.T) {
		c, delays := newClient(t, Options{})
		c.hops.guard.public.Resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, syscall.ENETUNREACH
		}}
		wantError(t, manifestError(t, c, target), Unresolvable, "registry.invalid")
		if len(delays.All()) != maxAttempts-1 {
			t.Errorf("%d retries, want %d", len(delays.All()), maxAttempts-1)
		}
	})
	t.Run("a name for a private address", func(t *testing.T) {
		c, delays := newClient(t, Options{})
		c.hops.guard.public.Resolver = nameServer(t, [4]byte{127, 0, 0, 1})
		forbidden(t, c, delays, host, func() error { return manifestError(t, c, target) })
		s.WantRequests(t)
	})
	t.Run("a listed name for a private address", func(t *testing.T) {
		c, _ := newClient(t, Options{Registries: map[string]Registry{host: {PlainHTTP: true}}})
		c.hops.guard.plain.Resolver = nameServer(t, [4]byte{127, 0, 0, 1})
		wantManifest(t, c, target)
	})
}
