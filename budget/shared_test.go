package budget

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
)

// TestShared: work is wanted by the clients that began or joined it, and by those of
// the work that it is part of, whenever they come.
func TestShared(t *testing.T) {
	l := NewLedger(Limits{})
	as := func(ctx context.Context, client string) context.Context { return With(ctx, l.Open(client)) }
	look, lookUp, endLookUp := Share(as(t.Context(), "a"))
	token, login, endLogin := Share(context.WithoutCancel(look))
	if Client(token) != "a" {
		t.Errorf("the work is charged to %q", Client(token))
	}
	var seen []string
	stop := Watch(token, func(client string) { seen = append(seen, client) })
	lookUp.Join(as(t.Context(), "b"))() // a client that leaves has wanted it
	login.Join(as(t.Context(), "c"))
	lookUp.Join(as(t.Context(), "a"))
	if want := []string{"a", "b", "c"}; !slices.Equal(seen, want) {
		t.Errorf("wanted by %v, want %v", seen, want)
	}
	var outer []string
	Watch(look, func(client string) { outer = append(outer, client) })
	slices.Sort(outer)
	if want := []string{"a", "b"}; !slices.Equal(outer, want) {
		t.Errorf("the work that the other is part of is wanted by %v, want %v", outer, want)
	}
	stop()
	endLogin()
	lookUp.Join(as(t.Context(), "d"))
	if len(seen) != 3 || len(lookUp.watches) != 1 || len(login.watches) != 0 {
		t.Errorf("after the end: %v, %d and %d watch", seen, len(lookUp.watches), len(login.watches))
	}
	endLookUp()
	alone := ""
	Watch(as(t.Context(), "x"), func(client string) { alone += client })()
	if alone != "x" {
		t.Errorf("a request by itself is wanted by %q", alone)
	}
}

// TestSharedAtOnce: every client is told exactly once, whatever happens at once.
func TestSharedAtOnce(t *testing.T) {
	l := NewLedger(Limits{})
	ctx, s, end := Share(t.Context())
	defer end()
	inner, _, endInner := Share(ctx)
	defer endInner()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var mu sync.Mutex
			seen := map[string]int{}
			defer Watch(inner, func(client string) {
				mu.Lock()
				defer mu.Unlock()
				seen[client]++
			})()
			for i := range 50 {
				s.Join(With(t.Context(), l.Open(fmt.Sprint(i))))
			}
			mu.Lock()
			defer mu.Unlock()
			for client, n := range seen {
				if n != 1 {
					t.Errorf("%q was told %d times", client, n)
				}
			}
			if len(seen) != 51 {
				t.Errorf("%d clients are known, want 51", len(seen))
			}
		})
	}
	wg.Wait()
}
