package auth

import "testing"

func TestReservedIdentities(t *testing.T) {
	for identity, want := range map[string]bool{
		"*": true, PlatformIdentity("a token"): true, RecipeIdentity("fusion"): true, RecipeIdentity(""): true,
		"": false, "ci": false, "**": false, "recipe": false, "my-recipe:x": false,
	} {
		if got := IsReserved(identity); got != want {
			t.Errorf("IsReserved(%q) = %v", identity, got)
		}
	}
	if name, ok := RecipeOf(RecipeIdentity("a")); !ok || name != "a" {
		t.Errorf("the recipe is %q, %v", name, ok)
	}
	if _, ok := RecipeOf(PlatformIdentity("x")); ok {
		t.Error("a caller is taken for a recipe")
	}
}
