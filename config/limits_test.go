package config

import (
	"testing"

	"github.com/waveproxy/waveproxy/budget"
)

// TestBudgets: a client has a quarter of all, and can always send the largest body.
func TestBudgets(t *testing.T) {
	c := Defaults()
	limits := c.Budgets()
	for _, test := range []struct {
		kind budget.Kind
		want budget.Limit
	}{
		{budget.Memory, budget.Limit{Request: 65 << 20, Client: 65 << 20, All: 260 << 20}},
		{budget.Bodies, budget.Limit{Request: 65 << 19, Client: 65 << 19, All: 130 << 20}},
		{budget.Fetches, budget.Limit{Request: 64, Client: 64, All: 256}},
		{budget.Streams, budget.Limit{Request: 512, Client: 512, All: 2048}},
		{budget.Files, budget.Limit{Request: 1 << 14, Client: 1 << 14, All: 1 << 16}},
	} {
		if got := limits[test.kind]; got != test.want {
			t.Errorf("%s: %+v, want %+v", test.kind.Key(), got, test.want)
		}
	}
	for kind, limit := range limits[:budget.Files+1] { // queues bound the others
		if limit.Request < 1 || limit.Request > limit.Client || limit.Client > limit.All/4 {
			t.Errorf("%s: %+v is no share", budget.Kind(kind).Key(), limit)
		}
	}
	c.API.MaxBody, c.Limits.Files = 1<<20, 0
	if got := c.Budgets()[budget.Memory]; got != (budget.Limit{Request: 35 << 20, Client: 65 << 20, All: 260 << 20}) {
		t.Errorf("with small bodies %+v", got)
	}
	if got := c.Budgets()[budget.Files]; got != (budget.Limit{}) {
		t.Errorf("without a limit %+v", got)
	}
	c.API.MaxBody = 100 << 20
	if got := c.Budgets()[budget.Bodies]; got != (budget.Limit{Request: 201 << 19, Client: 201 << 19, All: 402 << 20}) {
		t.Errorf("with large bodies, for bodies %+v", got)
	}
	if got := c.Budgets()[budget.Memory]; got != (budget.Limit{Request: 201 << 20, Client: 201 << 20, All: 804 << 20}) {
		t.Errorf("with large bodies %+v", got)
	}
}
