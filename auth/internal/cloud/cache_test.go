package cloud_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/auth/internal/cloud"
	"github.com/waveproxy/waveproxy/auth/internal/cloud/cloudtest"
)

func TestMain(m *testing.M) { cloudtest.Main(m) }

// source is a cloud whose passwords are "1", "2" and so on.
type source struct {
	mu     sync.Mutex
	logins int
	life   time.Duration // of a credential; 0 for one that must not be kept
	fail   error
	takes  time.Duration
}

func (s *source) login(ctx context.Context) (auth.Credential, time.Time, error) {
	s.mu.Lock()
	s.logins++
	n, life, fail, takes := s.logins, s.life, s.fail, s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
	case <-ctx.Done():
		return auth.Credential{}, time.Time{}, ctx.Err()
	}
	if fail != nil {
		return auth.Credential{}, time.Time{}, fail
	}
	var expires time.Time
	if life != 0 {
		expires = time.Now().Add(life)
	}
	return auth.Credential{Password: fmt.Sprint(n)}, expires, nil
}

func (s *source) set(life, takes time.Duration, fail error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.life, s.takes, s.fail = life, takes, fail
}

var errDown = errors.New("the cloud is down")

// want checks the credential, and waits until a renewal that this began has ended.
func want(t *testing.T, c *cloud.Cache, s *source, password string, wantErr error) {
	t.Helper()
	got, err := c.Get(t.Context(), "key", s.login)
	if got.Password != password || !errors.Is(err, wantErr) {
		t.Errorf("got %q, %v, want %q, %v", got.Password, err, password, wantErr)
	}
	synctest.Wait()
}

func TestCacheRenews(t *testing.T) {
	type step struct {
		after    time.Duration
		password string
		err      error
	}
	tests := map[string]struct {
		life  time.Duration
		fails bool // after the first login
		steps []step
	}{
		"while a quarter is left": {12 * time.Hour, false, []step{
			{0, "1", nil}, {9*time.Hour - 1, "1", nil},
			{1, "1", nil}, // and is renewed in the background
			{1, "2", nil}, {9*time.Hour - 3, "2", nil}, {2, "2", nil}, {1, "3", nil},
		}},
		"at once when it expired": {time.Hour, false, []step{
			{0, "1", nil}, {59 * time.Minute, "2", nil},
		}},
		"a failing cloud is asked every 5 seconds, and what is valid stays": {time.Hour, true, []step{
			{0, "1", nil}, {45 * time.Minute, "1", nil}, {13 * time.Minute, "1", nil}, {time.Minute, "", errDown},
		}},
		"of a minute": {time.Minute, false, []step{{0, "1", nil}, {0, "2", nil}}},
		"of no time":  {0, false, []step{{0, "1", nil}, {0, "2", nil}}},
		"of the past": {-time.Hour, false, []step{{0, "1", nil}, {0, "2", nil}}},
		"of 3 minutes": {3 * time.Minute, false, []step{
			{0, "1", nil}, {2*time.Minute - 1, "1", nil}, {1, "2", nil},
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{life: test.life}
				c := cloud.NewCache(nil)
				for i, step := range test.steps {
					time.Sleep(step.after)
					want(t, c, s, step.password, step.err)
					if i == 0 && test.fails {
						s.set(0, 0, errDown)
					}
				}
			})
		})
	}
}

func TestCacheRepeatsErrorsBriefly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{fail: errDown}
		c := cloud.NewCache(nil)
		for range 10 {
			want(t, c, s, "", errDown)
		}
		if s.logins != 1 {
			t.Errorf("%d logins for a burst, want 1", s.logins)
		}
		s.set(time.Hour, 0, nil)
		time.Sleep(5 * time.Second)
		want(t, c, s, "2", nil)

		time.Sleep(50 * time.Minute) // due for renewal
		s.set(0, 0, errDown)
		for range 10 {
			want(t, c, s, "2", nil)
		}
		if s.logins != 3 {
			t.Errorf("%d logins, want one failed renewal more", s.logins)
		}
		s.set(time.Hour, 0, nil)
		time.Sleep(5 * time.Second)
		want(t, c, s, "2", nil)
		want(t, c, s, "4", nil)
	})
}

func TestCacheSharesLogins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour, takes: time.Second}
		c := cloud.NewCache(nil)
		first, leave := context.WithCancel(t.Context())
		errs := make(chan error, 1)
		go func() {
			_, err := c.Get(first, "key", s.login)
			errs <- err
		}()
		synctest.Wait()
		var others sync.WaitGroup
		for range 49 {
			others.Go(func() {
				if got, err := c.Get(t.Context(), "key", s.login); err != nil || got.Password != "1" {
					t.Errorf("got %q, %v", got.Password, err)
				}
			})
		}
		synctest.Wait()
		start := time.Now()
		leave()
		if err := <-errs; !errors.Is(err, context.Canceled) {
			t.Errorf("the caller that left got %v", err)
		}
		if time.Since(start) != 0 {
			t.Error("the caller that left had to wait")
		}
		others.Wait()
		if s.logins != 1 {
			t.Errorf("%d logins, want 1", s.logins)
		}
		if got, err := c.Get(t.Context(), "other key", s.login); err != nil || got.Password != "2" {
			t.Errorf("another key got %q, %v", got.Password, err)
		}
	})
}

func TestCacheRenewsInTheBackground(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{life: time.Hour}
		c := cloud.NewCache(nil)
		want(t, c, s, "1", nil)
		s.set(time.Hour, time.Hour, nil) // from now on the cloud hangs
		time.Sleep(50 * time.Minute)
		start := time.Now()
		want(t, c, s, "1", nil)
		if time.Since(start) != 0 {
			t.Error("a valid credential had to be waited for")
		}
		time.Sleep(cloud.Timeout) // and the renewal has ended, or synctest complains
	})
}

func TestCacheTimeouts(t *testing.T) {
	tests := map[string]struct {
		login func(*source) cloud.Login
		after time.Duration
	}{
		"a login that hangs": {func(s *source) cloud.Login { return s.login }, cloud.Timeout},
		"a login that ignores its context": {func(s *source) cloud.Login {
			return func(context.Context) (auth.Credential, time.Time, error) { return s.login(context.Background()) }
		}, cloud.Timeout + time.Second},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				_, err := cloud.NewCache(nil).Get(t.Context(), "key", test.login(&source{takes: 2 * time.Minute}))
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != test.after {
					t.Errorf("got %v after %v", err, time.Since(start))
				}
				time.Sleep(2 * time.Minute)
			})
		})
	}
}

func TestCacheIsBounded(t *testing.T) {
	s := &source{life: time.Hour}
	c := cloud.NewCache(nil)
	for range 2 {
		for i := range 1000 {
			if _, err := c.Get(t.Context(), fmt.Sprint(i), s.login); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s.logins != 2000 {
		t.Errorf("%d logins, want 2000: the first keys were kept while a thousand came", s.logins)
	}
}
