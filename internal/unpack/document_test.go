package unpack

import (
	"testing"
	"testing/synctest"

	"github.com/waveproxy/waveproxy/budget"
)

// TestInTurn: while one client decodes as many large documents as it may, its next one
// waits. Small documents and those of other clients do not.
func TestInTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := budget.NewLedger(budget.Limits{})
		pool := newPool(4)
		run := func(client string, bytes int, work func()) {
			must(t, inTurn(newTurn(as(t, l, client), pool), bytes, func() error { work(); return nil }))
		}
		done := make(chan struct{})
		for range 2 {
			go run("a", smallDocument+1, func() { <-done })
		}
		synctest.Wait()
		third := false
		go run("a", smallDocument+1, func() { third = true })
		synctest.Wait()
		if third {
			t.Error("a third large document of the client has a turn")
		}
		others := 0
		run("a", smallDocument, func() { others++ })
		run("b", smallDocument+1, func() { others++ })
		if others != 2 {
			t.Errorf("%d of 2 other documents were decoded", others)
		}
		close(done)
		synctest.Wait()
		if !third {
			t.Error("the third document never has its turn")
		}
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
	}
}
