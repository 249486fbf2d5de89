package front

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
)

// TestBudgetOfRequest: what a request costs is charged to its client's address, and
// to its user after a login, in derived and detached contexts, too.
func TestBudgetOfRequest(t *testing.T) {
	ledger := budget.NewLedger(budget.Limits{budget.Memory: {Client: requestCost + 100, All: 10 * requestCost}})
	var in context.Context
	var held int64
	h := Front{Log: slog.New(slog.DiscardHandler), Ledger: ledger}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		in = r.Context()
		held = ledger.Held(budget.Memory)
	}))
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.RemoteAddr = "192.0.2.7:1234"
	h.ServeHTTP(httptest.NewRecorder(), r)
	b := budget.From(context.WithoutCancel(context.WithValue(in, otherKey{}, 1)))
	if at := ledger.Held(budget.Memory); held < requestCost || held > requestCost+100 || at != 0 {
		t.Errorf("a request costs %d bytes, and %d when it has ended", held, at)
	}
	if b.Client() != "192.0.2.7" {
		t.Errorf("charged to %q", b.Client())
	}
	if _, err := b.Hold(budget.Memory, requestCost+101); err == nil {
		t.Error("the ledger's limits do not hold")
	}
	SetUser(in, "ann")
	if b.Client() != "user ann at 192.0.2.7" || RecordOf(in).User != "ann" {
		t.Errorf("after the login charged to %q, logged as %q", b.Client(), RecordOf(in).User)
	}
}

func TestWithoutLedger(t *testing.T) {
	called := false
	Front{Log: slog.New(slog.DiscardHandler)}.Handler(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		called = true
		if b := budget.From(r.Context()); b != nil {
			t.Errorf("there is a budget of %q", b.Client())
		}
		SetUser(r.Context(), "ann")
	})).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("GET", "/", nil))
	if !called {
		t.Error("the handler was not called")
	}
}

func TestRefusedCharges(t *testing.T) {
	l := budget.NewLedger(budget.Limits{budget.Memory: {Request: 10, Client: 15, All: 20}})
	first := l.Open("a")
	_, ofRequest := first.Hold(budget.Memory, 11)
	if _, err := first.Hold(budget.Memory, 10); err != nil {
		t.Fatal(err)
	}
	_, ofClient := l.Open("a").Hold(budget.Memory, 6)
	if _, err := l.Open("b").Hold(budget.Memory, 10); err != nil {
		t.Fatal(err)
	}
	_, ofAll := l.Open("c").Hold(budget.Memory, 1)
	for _, test := range []struct {
		err  error
		want Problem
	}{
		{ofRequest, Problem{Status: 413, Code: "UNSUPPORTED"}},
		{ofClient, Problem{Status: 429, Code: "TOOMANYREQUESTS", RetryAfter: 5 * time.Second}},
		{ofAll, Problem{Status: 503, Code: "UNAVAILABLE", RetryAfter: 5 * time.Second}},
		{fairqueue.ErrFull, Problem{Status: 429, Code: "TOOMANYREQUESTS", RetryAfter: 5 * time.Second}},
	} {
		p := ProblemOf(fmt.Errorf("layers[0]: %w", test.err))
		if e, ok := errors.AsType[*budget.Exceeded](test.err); ok {
			test.want.Message = e.Error()
		} else {
			test.want.Message = p.Message
		}
		if p != test.want || p.Message == "" {
			t.Errorf("%v is %+v, want %+v", test.err, p, test.want)
		}
	}
}

// TestAllocations: a budget costs a request one object and its client's name.
func TestAllocations(t *testing.T) {
	next := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	r := httptest.NewRequest("GET", "/v2/", nil)
	count := func(f Front) float64 {
		f.Log = slog.New(slog.DiscardHandler)
		h := f.Handler(next)
		return testing.AllocsPerRun(100, func() { h.ServeHTTP(nil, r) })
	}
	without, with := count(Front{}), count(Front{Ledger: budget.NewLedger(budget.Limits{})})
	if with > without+2 {
		t.Errorf("%v allocations with a ledger, %v without", with, without)
	}
}

type otherKey struct{}
