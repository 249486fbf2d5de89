package private

import (
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// nameServer is a DNS server without names. It answers SERVFAIL for names that
// begin with "broken", and NXDOMAIN for all others.
type nameServer struct {
	addr  string // on loopback, at port 53, because resolv.conf cannot name a port
	mu    sync.Mutex
	asked []string
}

func newNameServer(t *testing.T) *nameServer {
	t.Helper()
	for range 10 {
		addr := fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
		conn, err := net.ListenPacket("udp", addr+":53")
		if err != nil {
			t.Log(err)
			continue
		}
		s := &nameServer{addr: addr}
		t.Cleanup(func() { conn.Close() })
		go s.serve(conn)
		return s
	}
	t.Fatal("no address for a DNS server, which needs root")
	return nil
}

func (s *nameServer) serve(conn net.PacketConn) {
	packet := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFrom(packet)
		if err != nil {
			return
		}
		var m dnsmessage.Message
		if m.Unpack(packet[:n]) != nil || len(m.Questions) != 1 {
			continue
		}
		name := strings.TrimSuffix(m.Questions[0].Name.String(), ".")
		s.mu.Lock()
		s.asked = append(s.asked, name)
		s.mu.Unlock()
		m.Response, m.Additionals, m.RCode = true, nil, dnsmessage.RCodeNameError
		if strings.HasPrefix(name, "broken") {
			m.RCode = dnsmessage.RCodeServerFailure
		}
		if data, err := m.Pack(); err == nil {
			_, _ = conn.WriteTo(data, from)
		}
	}
}

func (s *nameServer) wasAsked(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.asked, name)
}

// resolveWith returns a program that starts the server with its own
// /etc/resolv.conf, which names s. No query leaves the machine.
func resolveWith(t *testing.T, s *nameServer) string {
	t.Helper()
	path, err := harness.Binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	resolver, program := filepath.Join(dir, "resolv.conf"), filepath.Join(dir, "waveproxy")
	harness.WritePrivate(t, resolver, "nameserver "+s.addr+"\noptions timeout:2 attempts:1\n")
	harness.WritePrivate(t, program, fmt.Sprintf("#!/bin/sh\nexec unshare --mount --propagation private sh -c 'mount --bind %s /etc/resolv.conf && exec %s \"$@\"' sh \"$@\"\n", resolver, path))
	if err := os.Chmod(program, 0o700); err != nil {
		t.Fatal(err)
	}
	return program
}

// TestPrivateNames: a name that does not exist, and a name whose lookup fails,
// each have a message that is about DNS and not about the credential.
func TestPrivateNames(t *testing.T) {
	names := newNameServer(t)
	program := resolveWith(t, names)
	user := ownPuller("names")
	p := harness.StartBinary(t, program, "", map[string]string{"WAVEPROXY_REGISTRIES": string(harness.MustJSON(t, map[string]any{
		"gone.invalid": harness.Login(user), "alias.test": map[string]string{"url": "https://gone.invalid", "username": user.Name, "password": user.Password},
		"broken.invalid": harness.Login(user),
	}))})
	for image, test := range map[string]struct {
		host string
		says []string
	}{
		"gone.invalid/team/app:1":     {"gone.invalid", []string{"cannot be resolved", "no such host", "check the name"}},
		"alias.test/team/app:1":       {"gone.invalid", []string{"alias.test/team/app:1", "cannot be resolved", "no such host"}},
		"unlisted.invalid/team/app:1": {"unlisted.invalid", []string{"cannot be resolved", "no such host"}},
		"broken.invalid/team/app:1":   {"broken.invalid", []string{"cannot be resolved", "server misbehaving", "DNS where this server runs"}},
	} {
		a := p.Submit(t, harness.Request{ContainerImage: image})
		if a.Status != 502 {
			t.Errorf("%s: status %d, want 502", image, a.Status)
		}
		harness.WantMessage(t, a.Raw, append(test.says, test.host, "DNS")...)
		if strings.Contains(a.Message, "credential") || strings.Contains(a.Message, names.addr) {
			t.Errorf("%s: message %q", image, a.Message)
		}
		if !names.wasAsked(test.host) {
			t.Errorf("the test's DNS server got no query for %s: another server may have got it", test.host)
		}
	}
}
