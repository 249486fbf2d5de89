package fault

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

var goroutineTotal = regexp.MustCompile(`^goroutine profile: total (\d+)`)

// goroutines returns the server's number of goroutines, and their stacks.
func goroutines(t *testing.T, p *harness.Proxy) (int, string) {
	t.Helper()
	// The connection is not kept, because its goroutines would be counted the
	// next time.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(p.DebugURL + "/debug/pprof/goroutine?debug=1")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	m := goroutineTotal.FindSubmatch(text)
	if m == nil {
		t.Fatalf("goroutines: %.200s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n, string(text)
}

func descriptors(t *testing.T, pid int) []string {
	t.Helper()
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var open []string
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			open = append(open, target)
		}
	}
	return open
}

// TestLeavingClients: clients that leave at any moment leave no goroutine,
// connection or file behind, even if the upstream fails at any moment. The same
// holds with the cache, which keeps reading for the clients that stay.
func TestLeavingClients(t *testing.T) {
	path, err := harness.RaceBinary()
	if err != nil {
		t.Fatal(err)
	}
	for name, cacheSize := range map[string]string{"streamed": "0", "cached": "64MiB"} {
		t.Run(name, func(t *testing.T) { leave(t, path, cacheSize) })
	}
}

func leave(t *testing.T, path, cacheSize string) {
	const clients, pulls, large = 64, 5, 6 << 20
	reg := upstream.NewFaulty(t)
	layers := reg.AddImage(t, "library/leave", 200, large, 64<<10, large)
	kinds := []upstream.Kind{upstream.Reset, upstream.Closed, upstream.Short, upstream.Stalled, upstream.OtherRange, upstream.Whole}
	settings := harness.WithCache(harness.RetryingSoon(harness.DockerHub(reg.URL)), cacheSize)
	settings["WAVEPROXY_LIMITS_SUBMITS"], settings["WAVEPROXY_LIMITS_PULLS"] = "0", "0"
	p := harness.StartBinary(t, path, "", settings)
	a := p.Augment(t, untouched("leave:1"))
	if status, _ := harness.Get(t, blobURL(p, a, layers[1])); status != http.StatusOK {
		t.Fatalf("status %d", status)
	}
	quiet := func() (int, []string, string) {
		http.DefaultClient.CloseIdleConnections()
		reg.CloseIdle()
		n, where := goroutines(t, p)
		return n, descriptors(t, p.PID), where
	}
	idle, files, _ := settled(t, quiet)

	reg.SetPlan(func(g upstream.Get) upstream.Fault {
		if rand.N(3) > 0 {
			return upstream.Fault{}
		}
		return upstream.Fault{Kind: kinds[rand.N(len(kinds))], After: rand.Int64N(large)}
	})
	var wg sync.WaitGroup
	var mu sync.Mutex
	whole, left := 0, 0
	for range clients {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for range pulls {
				done, err := pullAndLeave(t.Context(), client, blobURL(p, a, layers[2*rand.N(2)]))
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				if done {
					whole++
				} else {
					left++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	reg.SetPlan(nil)
	t.Logf("%d of %d pulls were whole", whole, whole+left)
	if whole == 0 || left == 0 {
		t.Error("no pull was complete, or none was cut short, so nothing was tested")
	}
	var where string
	var n int
	var open []string
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if n, open, where = quiet(); n <= idle && len(open) <= len(files) {
			break
		}
	}
	if n > idle {
		t.Errorf("%d goroutines, %d when idle:\n%s", n, idle, where)
	}
	if len(open) > len(files) {
		t.Errorf("open files: %q, when idle %q", open, files)
	}
	t.Logf("goroutines %d, %d when idle; open files %d, %d when idle", n, idle, len(open), len(files))
	if strings.Contains(p.Log.String(), "DATA RACE") {
		t.Error("a data race; see the log")
	}
}

// settled measures until the result has stayed the same five times, and returns
// it.
func settled(t *testing.T, measure func() (int, []string, string)) (int, []string, string) {
	t.Helper()
	n, open, where := measure()
	for same := 0; same < 5; {
		time.Sleep(200 * time.Millisecond)
		m, now, text := measure()
		if same++; m != n || len(now) != len(open) {
			same = 0
		}
		n, open, where = m, now, text
	}
	return n, open, where
}

// pullAndLeave requests a blob and usually leaves after a part of it, at times
// slowly or before the headers. A blob that it reads to the end must have the
// right digest.
func pullAndLeave(ctx context.Context, client *http.Client, url string) (whole bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if rand.N(5) == 0 {
		time.AfterFunc(rand.N(5*time.Millisecond), cancel)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return false, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return false, nil // the client left, or the connection broke
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false, nil
	}
	d := digest.Digest(url[strings.LastIndexByte(url, '/')+1:])
	verifier := d.Verifier()
	most := resp.ContentLength
	if rand.N(3) > 0 {
		most = rand.Int64N(most)
	}
	n, err := io.Copy(verifier, io.LimitReader(resp.Body, most))
	switch {
	case err != nil || n < resp.ContentLength:
		return false, nil
	case !verifier.Verified():
		return false, fmt.Errorf("%d bytes that are not those of %s", n, d)
	}
	return true, nil
}
