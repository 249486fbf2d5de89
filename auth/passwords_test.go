package auth

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/waveproxy/waveproxy/budget"
)

// TestWork: the rounds of a wrong login reveal neither whether the user exists nor
// the cost of the hash.
func TestWork(t *testing.T) {
	hashes := map[string]string{}
	for user, cost := range map[string]int{"cheap": 4, "middle": 5, "dear": 7} {
		hash, err := bcrypt.GenerateFromPassword([]byte("hunter2"), cost)
		if err != nil {
			t.Fatal(err)
		}
		hashes[user] = string(hash)
	}
	p, err := NewPasswords(hashes)
	if err != nil {
		t.Fatal(err)
	}
	rounds := 0
	p.compare = func(hash, password []byte) error {
		cost, err := bcrypt.Cost(hash)
		if err != nil {
			t.Errorf("%q: %v", hash, err)
		}
		rounds += 1 << cost
		err = bcrypt.CompareHashAndPassword(hash, password)
		if err != nil && !errors.Is(err, bcrypt.ErrMismatchedHashAndPassword) {
			t.Errorf("%q takes no time: %v", hash, err)
		}
		return err
	}
	for _, user := range []string{"cheap", "middle", "dear", "unknown"} {
		rounds = 0
		wantLogin(t, p, user, "wrong", ErrWrongLogin)
		if rounds != 1<<7 {
			t.Errorf("%s: %d rounds, want %d", user, rounds, 1<<7)
		}
	}
	rounds = 0
	wantLogin(t, p, "cheap", "hunter2", nil)
	if rounds != 1<<4 {
		t.Errorf("a good login takes %d rounds", rounds)
	}
	rounds = 0
	wantLogin(t, p, "dear", strings.Repeat("x", maxPassword+1), ErrWrongLogin)
	if rounds != 0 {
		t.Error("a password that bcrypt would cut is compared")
	}
}

// TestPullCostsOneComparison: concurrent requests with one login are compared once,
// and a caller that leaves meanwhile does not wait.
func TestPullCostsOneComparison(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2")})
		if err != nil {
			t.Fatal(err)
		}
		var compared, at atomic.Int64
		p.compare = func(hash, password []byte) error {
			if at.Add(1) > 1 {
				t.Error("two comparisons at a time")
			}
			defer at.Add(-1)
			compared.Add(1)
			time.Sleep(time.Second)
			return bcrypt.CompareHashAndPassword(hash, password)
		}
		ctx, leave := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() { wantLogin(t, p, "ann", "hunter2", nil) })
		}
		synctest.Wait()
		var gone error
		wg.Go(func() { gone = p.Check(ctx, "ann", "wrong") })
		synctest.Wait()
		start := time.Now()
		leave()
		synctest.Wait()
		if !errors.Is(gone, context.Canceled) || time.Since(start) != 0 {
			t.Errorf("the caller that left got %v after %s", gone, time.Since(start))
		}
		wg.Wait()
		if n := compared.Load(); n != 1 {
			t.Errorf("%d comparisons, want 1", n)
		}
		time.Sleep(rememberGood)
		wantLogin(t, p, "ann", "hunter2", nil)
		if n := compared.Load(); n != 2 {
			t.Errorf("%d comparisons, want another after %s", n, rememberGood)
		}
	})
}

// TestClusterComesBack: a thousand nodes whose login was right before cost one
// comparison, and none is refused.
func TestClusterComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2")})
		if err != nil {
			t.Fatal(err)
		}
		wantLogin(t, p, "ann", "hunter2", nil)
		var compared atomic.Int64
		p.compare = func(hash, password []byte) error {
			compared.Add(1)
			time.Sleep(time.Second)
			return bcrypt.CompareHashAndPassword(hash, password)
		}
		time.Sleep(rememberGood)
		var wg sync.WaitGroup
		for range 1000 {
			wg.Go(func() { wantLogin(t, p, "ann", "hunter2", nil) })
		}
		if wg.Wait(); compared.Load() != 1 {
			t.Errorf("%d comparisons, want 1", compared.Load())
		}
	})
}

// TestWrongLoginsAreNotKept: otherwise a client that guesses could push the good
// logins out of memory.
func TestWrongLoginsAreNotKept(t *testing.T) {
	p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2")})
	if err != nil {
		t.Fatal(err)
	}
	wantLogin(t, p, "ann", "hunter2", nil)
	p.compare = func(_, _ []byte) error { return bcrypt.ErrMismatchedHashAndPassword }
	for i := range maxGood + 1 {
		wantLogin(t, p, "ann", strings.Repeat("x", i%maxPassword), ErrWrongLogin)
		wantLogin(t, p, strings.Repeat("x", i%maxPassword), "hunter2", ErrWrongLogin)
	}
	if n := p.good.Len(); n != 1 {
		t.Errorf("%d logins are remembered, want 1", n)
	}
	wantLogin(t, p, "ann", "hunter2", nil)
}

// TestTurnsByClient: the guesses of one client delay a login of another by two
// comparisons at most, and a login that was right before waits for no
// neighbour.
func TestTurnsByClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, err := NewPasswords(map[string]string{"ann": hashOf(t, "hunter2"), "bob": hashOf(t, "hunter3")})
		if err != nil {
			t.Fatal(err)
		}
		p.now = time.Now
		p.compare = func(hash, password []byte) error {
			time.Sleep(time.Second)
			return bcrypt.CompareHashAndPassword(hash, password)
		}
		ledger := budget.NewLedger(budget.Limits{})
		from := func(client string) context.Context { return budget.With(t.Context(), ledger.Open(client)) }
		took := func(client, user, password string) time.Duration {
			begun := time.Now()
			if err := p.Check(from(client), user, password); err != nil {
				t.Errorf("%s: %v", user, err)
			}
			return time.Since(begun)
		}
		took("192.0.2.1", "ann", "hunter2")
		time.Sleep(2 * rememberGood)
		var wg sync.WaitGroup
		var refused, busy atomic.Int64
		for i := range maxWaiting + 50 {
			wg.Go(func() {
				switch err := p.Check(from("192.0.2.1"), "ann", fmt.Sprint("guess", i)); {
				case errors.Is(err, ErrWrongLogin):
					refused.Add(1)
				case errors.Is(err, ErrBusy):
					busy.Add(1)
				default:
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		if busy.Load() != 49 {
			t.Errorf("%d logins of one client were refused at once, want 49", busy.Load())
		}
		if d := took("192.0.2.2", "bob", "hunter3"); d > 3*time.Second {
			t.Errorf("a login from another address took %s, want a delay of two comparisons at most", d)
		}
		if d := took("192.0.2.1", "ann", "hunter2"); d > 3*time.Second {
			t.Errorf("a login that was right before took %s beside its neighbour's guesses", d)
		}
		wg.Wait()
		if refused.Load() < 50 || refused.Load() > 61 || refused.Load()+busy.Load() != maxWaiting+50 {
			t.Errorf("%d guesses were compared, %d could not wait: want those of a minute", refused.Load(), busy.Load())
		}
	})
}

func TestNewPasswordsRefuses(t *testing.T) {
	for user, hash := range map[string]string{
		"": hashOf(t, "x"), "ann": "hunter2", "bob": "", "ops:$2y$05$hunter2": hashOf(t, "x"),
	} {
		if _, err := NewPasswords(map[string]string{user: hash}); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%q: %v", user, err)
		}
	}
}

// htpasswdFile is a file whose times follow a clock that the test moves.
type htpasswdFile struct {
	path     string
	now      time.Time
	problems []string
}

func (f *htpasswdFile) write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, f.now, f.now); err != nil {
		t.Fatal(err)
	}
}

func openFile(t *testing.T, text string) (*htpasswdFile, *Passwords) {
	t.Helper()
	f := &htpasswdFile{path: filepath.Join(t.TempDir(), "htpasswd"), now: time.Now()}
	f.write(t, f.path, text)
	p, err := OpenHtpasswd(f.path)
	if err != nil {
		t.Fatal(err)
	}
	p.file.looked, p.file.read = f.now, f.now
	p.now = func() time.Time { return f.now }
	p.OnReloadError = func(err error) { f.problems = append(f.problems, err.Error()) }
	return f, p
}

// TestHtpasswdChangesUnseen: hashes have one size, so a second change within one
// tick of the file system's clock shows in neither size nor time.
func TestHtpasswdChangesUnseen(t *testing.T) {
	f, p := openFile(t, "ann:"+hashOf(t, "first"))
	f.write(t, f.path, "ann:"+hashOf(t, "second"))
	f.now = f.now.Add(recheckAfter - 1)
	wantLogin(t, p, "ann", "first", nil) // not looked at yet
	f.now = f.now.Add(1)
	wantLogin(t, p, "ann", "first", ErrWrongLogin)
	wantLogin(t, p, "ann", "second", nil)
}

// TestHtpasswdReplaced: htpasswd and Kubernetes replace the file, here by one with
// the same time and size.
func TestHtpasswdReplaced(t *testing.T) {
	f, p := openFile(t, "ann:"+hashOf(t, "first"))
	f.write(t, f.path+".new", "ann:"+hashOf(t, "second"))
	f.now = f.now.Add(time.Hour)
	wantLogin(t, p, "ann", "first", nil)
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
	f.now = f.now.Add(time.Hour)
	wantLogin(t, p, "ann", "first", ErrWrongLogin)
	wantLogin(t, p, "ann", "second", nil)
}

// TestHtpasswdIsReadOnce: a file whose time is old is not read again until it
// changes.
func TestHtpasswdIsReadOnce(t *testing.T) {
	f, p := openFile(t, "ann:"+hashOf(t, "first"))
	written := f.now
	f.now = written.Add(time.Hour)
	wantLogin(t, p, "ann", "first", nil) // reads it once more, now that its time can be trusted
	users := p.users.Load()
	f.now = written.Add(2 * time.Hour)
	wantLogin(t, p, "ann", "first", nil)
	if p.users.Load() != users {
		t.Error("the file was read again")
	}
}

func TestHtpasswdProblems(t *testing.T) {
	good := "ann:" + hashOf(t, "first")
	f, p := openFile(t, good)
	for _, step := range []struct {
		change func()
		told   string // "" for nothing new
	}{
		{func() { f.write(t, f.path, "ann:hunter2") }, ":1: "},
		{func() {}, ""},
		{func() { f.write(t, f.path, good+"\nbob:hunter2") }, ":2: "},
		{func() { f.write(t, f.path, strings.Repeat("#", maxHtpasswd+1)) }, "more than"},
		{func() { _ = os.Remove(f.path) }, "no such file"},
		{func() {}, ""},
		{func() {
			if err := syscall.Mkfifo(f.path, 0o600); err != nil { // opening it would hang
				t.Fatal(err)
			}
		}, "not a regular file"},
		{func() { _ = os.Remove(f.path); f.write(t, f.path, good) }, ""},
		{func() { f.write(t, f.path, "ann:hunter2") }, ":1: "}, // again, after it was good
	} {
		f.now, f.problems = f.now.Add(time.Minute), nil
		step.change()
		wantLogin(t, p, "ann", "first", nil)
		told := strings.Join(f.problems, "\n")
		if (step.told == "") != (told == "") || !strings.Contains(told, step.told) || strings.Contains(told, "hunter2") {
			t.Errorf("told %q, want %q", told, step.told)
		}
	}
}

// TestHtpasswdReloadUnderLoad has logins while the file changes.
func TestHtpasswdReloadUnderLoad(t *testing.T) {
	f, p := openFile(t, "ann:"+hashOf(t, "hunter2"))
	var clock atomic.Int64
	p.now = func() time.Time { return f.now.Add(time.Duration(clock.Add(1)) * time.Second) }
	line := "ann:" + hashOf(t, "hunter2") + "\nbob:" + hashOf(t, "hunter3") + "\n"
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				wantLogin(t, p, "ann", "hunter2", nil)
			}
		})
	}
	// Replaces the file as editors do, so that no login sees half of it.
	f.write(t, f.path+".new", line)
	if err := os.Rename(f.path+".new", f.path); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	wantLogin(t, p, "bob", "hunter3", nil)
}
