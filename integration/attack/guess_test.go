package attack

import (
	"fmt"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// knock sends a login from an address of loopback and returns the status of the
// answer, and how long it took.
func knock(t *testing.T, p *harness.Proxy, from, user, password string) (int, time.Duration) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		DialContext:       (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).DialContext,
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+"/v2/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.SetBasicAuth(user, password)
	begun := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		t.Error(err)
		return 0, 0
	}
	resp.Body.Close()
	return resp.StatusCode, time.Since(begun)
}

// TestAttackGuesses sends 200 wrong passwords at once. Five are compared. The
// right password that was used before passes at the address that guesses, and
// another address waits for no guess.
func TestAttackGuesses(t *testing.T) {
	t.Parallel()
	ann, bob := harness.Puller("ann"), harness.Puller("bob")
	p := harness.StartProxy(t, "", map[string]string{
		"WAVEPROXY_REGISTRY_AUTH": "basic", "WAVEPROXY_REGISTRY_HTPASSWD": upstream.HtpasswdFile(t, ann, bob),
		"WAVEPROXY_LIMITS_WRONG_LOGINS": "5/h",
	})
	const here, elsewhere = "127.0.0.1", "127.0.0.2"
	if status, _ := knock(t, p, here, ann.Name, ann.Password); status != http.StatusOK {
		t.Fatalf("the right password: %d", status)
	}
	var mu sync.Mutex
	statuses := map[int]int{}
	var wg sync.WaitGroup
	for i := range 200 {
		wg.Go(func() {
			status, _ := knock(t, p, here, ann.Name, fmt.Sprint("guess", i))
			mu.Lock()
			defer mu.Unlock()
			statuses[status]++
		})
	}
	if status, took := knock(t, p, elsewhere, bob.Name, bob.Password); status != http.StatusOK || took > 5*time.Second {
		t.Errorf("BREACH: beside the guesses of %s, a login from %s is %d after %s", here, elsewhere, status, took)
	}
	wg.Wait()
	if statuses[http.StatusUnauthorized] != 5 || statuses[http.StatusTooManyRequests] != 195 {
		t.Errorf("BREACH: 200 guesses at once with a limit of 5 were answered %v", statuses)
	}
	if status, _ := knock(t, p, here, ann.Name, ann.Password); status != http.StatusOK {
		t.Errorf("BREACH: the right password, used before, is %d beside the guesses of a neighbour", status)
	}
	if status, _ := knock(t, p, here, bob.Name, bob.Password); status != http.StatusOK {
		t.Errorf("BREACH: the right password of another user is %d beside the guesses of a neighbour", status)
	}
	if status, _ := knock(t, p, here, ann.Name, "guess"); status != http.StatusTooManyRequests {
		t.Errorf("BREACH: a right login between guesses gives back the guesses: %d", status)
	}
}
