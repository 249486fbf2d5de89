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
	"time"

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
		host   string
		status int
		says   []string
	}{
		"gone.invalid/team/app:1":     {"gone.invalid", 403, []string{"cannot be resolved", "no such host", "check the name"}},
		"alias.test/team/app:1":       {"gone.invalid", 403, []string{"alias.test/team/app:1", "cannot be resolved", "no such host"}},
		"unlisted.invalid/team/app:1": {"unlisted.invalid", 403, []string{"cannot be resolved", "no such host"}},
		"broken.invalid/team/app:1":   {"broken.invalid", 502, []string{"cannot be resolved", "server misbehaving", "DNS where this server runs"}},
	} {
		a := p.Submit(t, harness.Request{ContainerImage: image})
		if a.Status != test.status {
			t.Errorf("%s: status %d, want %d", image, a.Status, test.status)
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

// TestMistypedHostIsRefusedAtOnce: clients do not repeat a request whose host DNS does
// not have, and print the reason. They repeat it when DNS fails, which may pass.
func TestMistypedHostIsRefusedAtOnce(t *testing.T) {
	program := resolveWith(t, newNameServer(t))
	p := harness.StartBinary(t, program, "", nil)
	for client, submit := range map[string]func(*testing.T, *harness.Proxy, string) harness.Submitted{
		"Nextflow": harness.SubmitAsNextflow, "wave": harness.SubmitAsWaveCLI,
	} {
		t.Run(client, func(t *testing.T) {
			for _, image := range []string{"ghrc.invalid/x/y:1", "quay.invalid/biocontainers/samtools@sha256:" + strings.Repeat("1", 64), "hub.invalid:5000/a"} {
				host, _, _ := strings.Cut(image, "/")
				s := submit(t, p, image)
				if s.Requests != 1 || s.Paused+s.Took > time.Second {
					t.Errorf("%s: %d requests in %v and pauses of %v, want one request within a second", image, s.Requests, s.Took, s.Paused)
				}
				for _, want := range []string{"[403]", image, "the name of the host " + host + " cannot be resolved (no such host); check the name"} {
					if !strings.Contains(s.Printed, want) {
						t.Errorf("%s: %q does not say %q", image, s.Printed, want)
					}
				}
			}
			if s := submit(t, p, "broken.invalid/x/y:1"); s.Requests != 5 {
				t.Errorf("DNS that fails: %d requests, want five", s.Requests)
			}
		})
	}
}
