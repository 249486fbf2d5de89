package augment

import (
	"encoding/json"
	"testing"
)

// TestRecipeEqual: recipes are equal if and only if their JSON is, because a
// grant holds their JSON.
func TestRecipeEqual(t *testing.T) {
	full := func() Recipe {
		return Recipe{
			Layers:     []Layer{{Digest: "d", Size: 1, DiffID: "i", Platform: "p", OwnModes: true, Location: "l"}},
			Env:        []string{"A=1"},
			Entrypoint: []string{"e"}, Cmd: []string{"c"}, WorkingDir: "/w",
		}
	}
	if !full().Equal(full()) || !(Recipe{}).Equal(Recipe{Layers: []Layer{}, Env: []string{}}) {
		t.Error("the same recipes are not equal")
	}
	for i, change := range []func(*Recipe){
		func(r *Recipe) { r.Layers = nil },
		func(r *Recipe) { r.Layers[0].Digest = "x" },
		func(r *Recipe) { r.Layers[0].Size = 2 },
		func(r *Recipe) { r.Layers[0].DiffID = "x" },
		func(r *Recipe) { r.Layers[0].Platform = "x" },
		func(r *Recipe) { r.Layers[0].OwnModes = false },
		func(r *Recipe) { r.Layers[0].Location = "x" },
		func(r *Recipe) { r.Env = append(r.Env, "B=2") },
		func(r *Recipe) { r.Entrypoint = nil },
		func(r *Recipe) { r.Cmd[0] = "x" },
		func(r *Recipe) { r.WorkingDir = "" },
	} {
		changed := full()
		change(&changed)
		if changed.Equal(full()) || full().Equal(changed) {
			t.Errorf("change %d is not seen", i)
		}
	}
	data, err := json.Marshal(full())
	if err != nil {
		t.Fatal(err)
	}
	var read Recipe
	if err := json.Unmarshal(data, &read); err != nil || !read.Equal(full()) {
		t.Errorf("what was written and read is another: %+v, %v", read, err)
	}
}
