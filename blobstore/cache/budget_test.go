package cache_test

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"

	"github.com/waveproxy/waveproxy/blobstore/cache"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
	"github.com/waveproxy/waveproxy/budget"
)

// TestFillHasTheTurnsOfItsReaders: a download that one client began has the turn of each
// client that reads it, and so waits in none's line alone.
func TestFillHasTheTurnsOfItsReaders(t *testing.T) {
	c := openCache(t, t.TempDir(), 1<<20)
	data := storetest.Bytes(1000, "popular")
	ledger := budget.NewLedger(budget.Limits{})
	var mu sync.Mutex
	var wanted []string
	joined := make(chan struct{}, 3)
	asked, answer := make(chan struct{}), make(chan struct{})
	fetch := func(ctx context.Context, _ int64) (io.ReadCloser, error) {
		stop := budget.Watch(ctx, func(client string) {
			mu.Lock()
			defer mu.Unlock()
			wanted = append(wanted, client)
			joined <- struct{}{}
		})
		defer stop()
		close(asked)
		<-answer // its turn
		return (&source{data: data}).fetch(ctx, 0)
	}
	var readers sync.WaitGroup
	read := func(client string) {
		readers.Go(func() {
			b, err := c.Open(budget.With(t.Context(), ledger.Open(client)), reader, descriptor(data), fetch)
			if err != nil {
				t.Error(err)
				return
			}
			defer b.Close()
			if got, err := io.ReadAll(b); err != nil || len(got) != len(data) {
				t.Errorf("%s: %d bytes, %v", client, len(got), err)
			}
		})
	}
	read("greedy")
	<-asked
	<-joined
	for _, client := range []string{"honest", "another"} {
		read(client)
		<-joined
	}
	close(answer)
	readers.Wait()
	if slices.Sort(wanted); !slices.Equal(wanted, []string{"another", "greedy", "honest"}) {
		t.Errorf("wanted by %q", wanted)
	}
}

// TestRingsAreCharged: a download holds the memory that it reads ahead into. Without
// room it reads ahead little, or does not begin.
func TestRingsAreCharged(t *testing.T) {
	const small, large = 64 << 10, 512 << 10
	for name, test := range map[string]struct {
		limit, most int64
	}{
		"room": {1 << 20, large}, "little room": {small + large/2, small}, "no room": {small - 1, 0},
	} {
		c := openCache(t, t.TempDir(), 8<<20)
		data := storetest.Bytes(3<<20, "large")
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: test.limit, All: 4 << 20}})
		fetch, fetched := hand()
		ctx := budget.With(t.Context(), ledger.Open("a"))
		opened := make(chan error, 1)
		var b *cache.Blob
		go func() {
			var err error
			b, err = c.Open(ctx, reader, descriptor(data), fetch)
			opened <- err
		}()
		if test.most == 0 {
			if err := <-opened; !errors.Is(err, cache.ErrUnavailable) || ledger.Held(budget.Memory) != 0 {
				t.Errorf("%s: %v, %d bytes are held", name, err, ledger.Held(budget.Memory))
			}
			continue
		}
		up := fetched()
		if err := <-opened; err != nil {
			t.Fatal(name, err)
		}
		for part := range slices.Chunk(data[:len(data)-1], 100_000) {
			up.Write(part)
		}
		wantStart(t, b, data[:2<<20])
		if held := ledger.Held(budget.Memory); held != test.most {
			t.Errorf("%s: %d bytes are held, want %d", name, held, test.most)
		}
		up.Write(data[len(data)-1:])
		up.Close()
		wantRest(t, b, data[2<<20:])
		b.Close()
		c.Wait()
		if held := ledger.Held(budget.Memory); held != 0 {
			t.Errorf("%s: %d bytes are held in the end", name, held)
		}
	}
}
