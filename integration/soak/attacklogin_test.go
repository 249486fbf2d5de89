package soak

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"
)

// wrongLogins guesses passwords, two hundred at a time.
func wrongLogins(ctx context.Context, s *soak) {
	s.repeat(ctx, 200, func(ctx context.Context, c *client, i int) {
		c.user, c.password = fmt.Sprintf("honest%d", i%4), fmt.Sprint("guess", i)
		_, _, _ = c.do(ctx, "GET", "/v2/", nil)
	})
}

// absentRepositories requests a thousand names at once that the registry refuses
// slowly.
func absentRepositories(ctx context.Context, s *soak) {
	s.repeat(ctx, 600, func(ctx context.Context, c *client, i int) {
		_, _, _ = c.do(ctx, "GET", fmt.Sprintf("/v2/wt/tools/good.test/absent/n%d-%d/manifests/1", i, time.Now().UnixNano()), nil)
	})
}

// credentialHelpers requests images whose registry names each need a credential
// helper.
func credentialHelpers(ctx context.Context, s *soak) {
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			s.mu.Lock()
			s.helpers = max(s.helpers, children(s.PID))
			s.mu.Unlock()
			time.Sleep(50 * time.Millisecond)
		}
	})
	s.repeat(ctx, 100, func(ctx context.Context, c *client, i int) {
		_, _, _ = c.do(ctx, http.MethodGet, fmt.Sprintf("/v2/wt/helped/good.test/absent/h%d-%d/manifests/1", i, time.Now().UnixNano()), nil)
	})
	wg.Wait()
}
