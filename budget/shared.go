package budget

import (
	"context"
	"sync"
)

// Shared is work that several clients want. Queues take it when the first of them
// has its turn. It is safe for concurrent use.
type Shared struct {
	mu      sync.Mutex
	clients map[string]struct{}
	watches map[*func(string)]struct{}
}

type sharedKey struct{}

// Share returns work that the clients of the context want, and a context for it:
// Watch on that context, or on one derived from it, knows the work's clients. What
// the work costs is charged to the Budget of ctx all the same. End must be called
// when the work has ended.
func Share(ctx context.Context) (shared context.Context, s *Shared, end func()) {
	s = &Shared{clients: map[string]struct{}{}, watches: map[*func(string)]struct{}{}}
	return context.WithValue(ctx, sharedKey{}, s), s, s.Join(ctx)
}

// Join adds the clients of the context to those that want the work: the client whose
// Budget it has or, in a context for other shared work, all that want that work now
// or will before stop is called.
func (s *Shared) Join(ctx context.Context) (stop func()) { return Watch(ctx, s.add) }

func (s *Shared) add(client string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.clients[client]; known {
		return
	}
	s.clients[client] = struct{}{}
	for joined := range s.watches {
		(*joined)(client)
	}
}

// Watch tells joined of each client that wants the work that the context is for, now
// or until stop is called, by its Party. Without shared work that is the client of the
// context's Budget, "" if it has none. Joined must not block, and must not call Watch.
func Watch(ctx context.Context, joined func(client string)) (stop func()) {
	s, ok := ctx.Value(sharedKey{}).(*Shared)
	if !ok {
		joined(Party(ctx))
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for client := range s.clients {
		joined(client)
	}
	s.watches[&joined] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.watches, &joined)
	}
}
