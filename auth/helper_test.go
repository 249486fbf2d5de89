package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/budget"
)

// counting makes a helper that takes its time, and returns its keychain and a
// function that tells how often it ran and how many ran at once.
func counting(t *testing.T) (k dockerConfig, ran func() (runs, most int)) {
	t.Helper()
	dir := t.TempDir()
	helper(t, "counting", fmt.Sprintf(`cd %q
read -r server
mkdir running.$$
ls -d running.* | wc -l >> counts
sleep 0.2
rmdir running.$$
case "$server" in
bad*) echo 'the keychain is locked'; exit 1 ;;
none*) echo 'credentials not found in native keychain'; exit 1 ;;
*) echo '{"Username":"u","Secret":"hunter2"}' ;;
esac
`, dir))
	path := filepath.Join(t.TempDir(), "config.json")
	writeConfig(t, path, `{"credsStore":"counting"}`)
	c, err := DockerConfig(path)
	if err != nil {
		t.Fatal(err)
	}
	return c.(dockerConfig), func() (int, int) {
		data, err := os.ReadFile(filepath.Join(dir, "counts"))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		var counts []int
		for _, line := range strings.Fields(string(data)) {
			n, _ := strconv.Atoi(line)
			counts = append(counts, n)
		}
		if len(counts) == 0 {
			return 0, 0
		}
		return len(counts), slices.Max(counts)
	}
}

// TestHelperIsShared: repositories of one registry share an answer, at once and for
// a minute. A failure is repeated for five seconds.
func TestHelperIsShared(t *testing.T) {
	k, ran := counting(t)
	now := time.Unix(1e9, 0)
	k.helpers.now = func() time.Time { return now }
	for _, test := range []struct {
		registry string
		failed   bool
		kept     time.Duration
	}{{"good.io", false, time.Minute}, {"none.io", false, time.Minute}, {"bad.io", true, 5 * time.Second}} {
		before, _ := ran()
		burst := func(want int, when string) {
			t.Helper()
			var wg sync.WaitGroup
			for i := range 150 {
				wg.Go(func() {
					c, err := k.Credential(t.Context(), Target{Identity: "recipe:x", Registry: test.registry, Repository: fmt.Sprint("absent/", i)})
					if (err != nil) != test.failed || (c.Username == "u") != (test.registry == "good.io") {
						t.Errorf("%s: %v, %v", test.registry, c, err)
					}
				})
			}
			wg.Wait()
			if runs, _ := ran(); runs-before != want {
				t.Errorf("%s, %s: %d runs, want %d", test.registry, when, runs-before, want)
			}
		}
		burst(1, "at first")
		now = now.Add(test.kept - 1)
		burst(1, "later")
		now = now.Add(1)
		burst(2, "when the answer is old")
	}
}

// TestHelpersAreBounded: a client that asks for many registries has four helpers run
// at a time, and a helper of another client runs beside them.
func TestHelpersAreBounded(t *testing.T) {
	k, ran := counting(t)
	ledger := budget.NewLedger(budget.Limits{budget.Processes: {All: maxHelpers}})
	of := func(client string) context.Context { return budget.With(t.Context(), ledger.Open(client)) }
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if _, err := k.Credential(of("greedy"), Target{Registry: fmt.Sprint("r", i, ".io")}); err != nil {
				t.Error(err)
			}
		})
	}
	for n := 0; n < maxHelpersOfClient; n, _ = ran() {
		time.Sleep(10 * time.Millisecond)
	}
	if n := ledger.Held(budget.Processes); n != maxHelpersOfClient {
		t.Errorf("%d processes are charged, want %d", n, maxHelpersOfClient)
	}
	if _, err := k.Credential(of("another"), Target{Registry: "other.io"}); err != nil {
		t.Error(err)
	}
	if runs, _ := ran(); runs > 2*maxHelpersOfClient+2 {
		t.Errorf("another client waited for %d runs", runs)
	}
	wg.Wait()
	if runs, most := ran(); runs != 21 || most > maxHelpersOfClient+1 {
		t.Errorf("%d runs, %d at once, want 21 and %d", runs, most, maxHelpersOfClient)
	}
	if n := ledger.Held(budget.Processes); n != 0 {
		t.Errorf("%d processes are charged in the end", n)
	}
}

// TestTooManyHelpers: what a client cannot have run soon is refused, and the refusal
// is kept for no other caller.
func TestTooManyHelpers(t *testing.T) {
	k, _ := counting(t)
	ledger := budget.NewLedger(budget.Limits{})
	ctx, cancel := context.WithCancel(budget.With(t.Context(), ledger.Open("greedy")))
	defer cancel()
	var mu sync.Mutex
	refused := ""
	var wg sync.WaitGroup
	for i := range maxHelpersOfClient + helpersWaiting + 10 {
		wg.Go(func() {
			registry := fmt.Sprint("r", i, ".io")
			_, err := k.Credential(ctx, Target{Registry: registry})
			if e, ok := errors.AsType[*budget.Exceeded](err); ok && e.Scope == budget.OfClient && e.RetryAfter > 0 {
				mu.Lock()
				refused = registry
				mu.Unlock()
				cancel()
			}
		})
	}
	wg.Wait()
	if refused == "" {
		t.Fatal("no request is refused")
	}
	if c, err := k.Credential(t.Context(), Target{Registry: refused}); err != nil || c.Username != "u" {
		t.Errorf("%s for another caller: %v, %v", refused, c, err)
	}
	for !running.Idle() { // other tests count helpers, too
		time.Sleep(10 * time.Millisecond)
	}
}

// TestJoinedHelper: a client that wants the same answer as one that has all its
// helpers running does not wait for those.
func TestJoinedHelper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ledger := budget.NewLedger(budget.Limits{})
		of := func(client string) context.Context { return budget.With(t.Context(), ledger.Open(client)) }
		for range maxHelpersOfClient {
			done, err := mayRun(of("greedy"))
			if err != nil {
				t.Fatal(err)
			}
			defer done()
		}
		ctx, work, end := budget.Share(of("greedy"))
		defer end()
		began := make(chan error, 1)
		go func() {
			done, err := mayRun(ctx)
			if err == nil {
				done()
			}
			began <- err
		}()
		synctest.Wait()
		work.Join(of("another"))
		synctest.Wait()
		select {
		case err := <-began:
			if err != nil {
				t.Error(err)
			}
		default:
			t.Error("it waits for the other client's helpers")
		}
	})
}

// TestHelperIsKilled: at the deadline a helper ends, with what it has started.
func TestHelperIsKilled(t *testing.T) {
	pids := filepath.Join(t.TempDir(), "pids")
	helper(t, "hangs", fmt.Sprintf("sleep 300 &\necho $$ $! > %q\nwait\n", pids))
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := runHelper(ctx, "hangs", "quay.io"); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) > 10*time.Second {
		t.Errorf("%v after %s", err, time.Since(begun))
	}
	data, err := os.ReadFile(pids)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range strings.Fields(string(data)) {
		pid, _ := strconv.Atoi(text)
		for end := time.Now().Add(5 * time.Second); runs(pid); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("process %d goes on", pid)
			}
		}
	}
}

// runs reports whether a process exists that is more than an entry for its parent.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return !errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) && !errors.Is(err, os.ErrNotExist)
	}
	_, state, _ := strings.Cut(string(stat), ") ")
	return !strings.HasPrefix(state, "Z")
}
