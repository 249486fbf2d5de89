package attack

import (
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"testing"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackRebinding uses names whose address is public when it is checked and
// private when it is connected to. A server that looked a name up twice for one
// connection would be led to the second address.
func TestAttackRebinding(t *testing.T) {
	t.Parallel()
	if !inOwnNetwork(t) {
		return
	}
	w, image := newNetwork(t), newTinyImage(t)
	stranger := liar{tinyImage: image, self: "https://stranger.example.com"}
	ways := slices.Sorted(maps.Keys(led(nil, stranger, 0)))
	for n := range ways {
		stranger.targets = append(stranger.targets, fmt.Sprintf("led-%d.example.com", n))
		w.name(loginHost(n), "1.2.3.4")
	}
	w.host("1.2.3.4", stranger)
	w.host("9.8.7.6", image)
	w.host("2600::1", image)
	w.name("stranger.example.com", "1.2.3.4")
	w.name("good.example.com", "9.8.7.6")
	p := harness.StartProxy(t, "", map[string]string{"SSL_CERT_FILE": w.CA, "WAVEPROXY_UPSTREAMS_BLOBS": "stream"})

	// Images take several connections, and the first one succeeds. Layers at URLs
	// and logins are tried anew each time.
	tries, several, connects := direct(p, image), []string{"image", "include", "inspect"}, []string{"http layer", "https layer", "login"}
	for n, how := range ways {
		tries[how] = led(p, stranger, n)[how]
	}
	for n, how := range slices.Sorted(maps.Keys(tries)) {
		t.Run(how, func(t *testing.T) {
			for m, private := range []string{"127.0.0.1", "169.254.169.254", "10.0.0.1", "::1"} {
				host := fmt.Sprintf("rebind-%d-%d.example.com", n, m)
				if i := slices.Index(ways, how); i >= 0 {
					host = stranger.targets[i]
					if m > 0 {
						break // the name has been looked up
					}
				}
				w.rebind(host, "9.8.7.6", private)
				if r := tries[how](t, host); !slices.Contains(several, how) {
					wantAllowed(t, r, "a name that is public when it is looked up")
				}
				for range 3 {
					r := tries[how](t, host)
					if r.Status != http.StatusForbidden && (r.Status != http.StatusOK || slices.Contains(connects, how)) {
						t.Errorf("%s, and then %s: status %d: %s", host, private, r.Status, r.Body)
					}
				}
				if in := w.intruded(t); len(in) != 0 {
					t.Errorf("BREACH: %s, and then %s: connections were seen at %v", host, private, in)
				}
			}
		})
	}
	t.Run("several addresses", func(t *testing.T) { attackSeveralAddresses(t, w, p) })
}

// attackSeveralAddresses gives a name a public address that does not answer, and
// a private one as the next to try.
func attackSeveralAddresses(t *testing.T, w *network, p *harness.Proxy) {
	came := make(chan string, 100)
	for _, address := range []string{"127.0.0.1:999", "10.0.0.1:999", "[::1]:999"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
				conn.Close()
				came <- address
			}
		}()
	}
	for n, addresses := range [][]string{
		{"9.8.7.6", "127.0.0.1"}, {"127.0.0.1", "9.8.7.6"}, {"9.8.7.6", "10.0.0.1", "9.8.7.5"}, {"9.8.7.6", "::1"}, {"2600::1", "127.0.0.1", "::1"},
	} {
		host := fmt.Sprintf("several-%d.example.com", n)
		w.name(host, addresses...)
		r := submitting(t, p, map[string]any{"containerConfig": layerAt("http://" + host + ":999/l.tar.gz")})
		if r.Status != http.StatusForbidden && r.Status != http.StatusBadGateway {
			t.Errorf("%v: status %d: %s", addresses, r.Status, r.Body)
		}
		if conn, err := net.Dial("tcp", "127.0.0.1:999"); err != nil {
			t.Fatal(err)
		} else if conn.Close(); <-came != "127.0.0.1:999" {
			t.Errorf("BREACH: %v", addresses)
		}
		if len(came) != 0 {
			t.Errorf("BREACH: %v: %d connections more", addresses, len(came))
		}
		// The same with a host that answers: a public address among private ones is used.
		submitting(t, p, map[string]any{"containerConfig": layerAt("http://" + host + "/l.tar.gz")})
		if in := w.intruded(t); len(in) != 0 {
			t.Errorf("BREACH: %v: connections were seen at %v", addresses, in)
		}
	}
}
