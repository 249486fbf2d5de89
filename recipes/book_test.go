package recipes

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/waveproxy/waveproxy/auth"
)

func TestBook(t *testing.T) {
	// Each reading of a configuration makes new patterns.
	quay := func() []auth.Pattern {
		pattern, err := auth.ParsePattern("quay.io")
		if err != nil {
			t.Fatal(err)
		}
		return []auth.Pattern{pattern}
	}
	env := func(e string) Definition { return Definition{Env: []string{e}} }
	b := new(Book)
	if _, ok := b.Recipe("a"); ok || len(b.Names()) > 0 || b.Credentials(auth.RecipeIdentity("a")) != nil {
		t.Error("an empty book has a recipe")
	}
	if b.Enabled() {
		t.Error("an empty book was used")
	}
	steps := []struct {
		definitions map[string]Definition
		want        Changes
	}{
		{map[string]Definition{"a": env("A=1"), "b": env("B=1")}, Changes{Added: []string{"a", "b"}}},
		{map[string]Definition{"a": env("A=1"), "b": env("B=1")}, Changes{}},
		{map[string]Definition{"a": env("A=2"), "c": env("C=1")}, Changes{Added: []string{"c"}, Changed: []string{"a"}, Removed: []string{"b"}}},
		{map[string]Definition{"a": {Env: []string{"A=2"}, Images: quay()}, "c": env("C=1")}, Changes{Changed: []string{"a"}}},
		{map[string]Definition{"a": {Env: []string{"A=2"}, Images: quay()}, "c": {Env: []string{"C=1"}, Credentials: []string{"x"}}}, Changes{Changed: []string{"c"}}},
		{map[string]Definition{"a": {Env: []string{"A=2"}, Images: quay(), TagTTL: time.Minute}, "c": {Env: []string{"C=1"}, Credentials: []string{"x"}}}, Changes{Changed: []string{"a"}}},
		{nil, Changes{Removed: []string{"a", "c"}}},
	}
	for i, step := range steps {
		e, err := Loader{}.Load(t.Context(), step.definitions)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, b.Replace(e)); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
		if !b.Enabled() {
			t.Errorf("step %d: names are no longer recipes", i)
		}
		if len(b.Names()) != len(step.definitions) {
			t.Errorf("step %d: %v", i, b.Names())
		}
		if c, ok := step.definitions["c"]; ok && !slices.Equal(b.Credentials("recipe:c"), c.Credentials) {
			t.Errorf("step %d: credentials %v", i, b.Credentials("recipe:c"))
		}
		if b.Credentials(auth.RecipeIdentity("")) != nil {
			t.Error("an empty identity has credentials")
		}
	}
}

// TestBookWhileReplaced: a recipe comes from one edition. The race detector
// watches.
func TestBookWhileReplaced(t *testing.T) {
	b := new(Book)
	var group sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		group.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if r, ok := b.Recipe("a"); ok && r.Env[0] != r.Entrypoint[0]+"=1" {
					t.Errorf("a mixed recipe: %+v", r)
				}
			}
		})
	}
	for i := range 100 {
		name := fmt.Sprint("E", i)
		e, err := Loader{}.Load(t.Context(), map[string]Definition{"a": {Env: []string{name + "=1"}, Entrypoint: []string{name}}})
		if err != nil {
			t.Fatal(err)
		}
		b.Replace(e)
	}
	close(stop)
	group.Wait()
}
