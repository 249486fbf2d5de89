package auth

import (
	"errors"
	"testing"
	"time"
)

// TestAncestors: a token of an image that was made of other ones ends with each of them:
// when it expires, and, on every server, when it is revoked.
func TestAncestors(t *testing.T) {
	for _, revoked := range []string{"parent", "grandparent", "included", "none"} {
		records, c := newMemory(), noon()
		here, there := newTokens(t, records, c), newTokens(t, records, c)
		tokens, marks, ends := map[string]Token{}, map[string]string{}, map[string]time.Time{}
		mintOf := func(name string, ttl time.Duration, parents ...string) {
			g := testGrant()
			g.Recipe.Env = []string{"NAME=" + name}
			var last time.Time
			for _, p := range parents {
				g.Ancestors = append(g.Ancestors, marks[p])
				if last.IsZero() || ends[p].Before(last) {
					last = ends[p]
				}
			}
			token, end, err := here.MintWithin(t.Context(), g, ttl, 0, last)
			if err != nil {
				t.Fatal(err)
			}
			d, err := there.Describe(t.Context(), token)
			if err != nil || !d.Expires.Equal(end) || !last.IsZero() && end.After(last) {
				t.Errorf("%s ends at %s, %v; what it is made of at %s", name, end, err, last)
			}
			tokens[name], marks[name], ends[name] = token, d.Mark, end
		}
		mintOf("grandparent", 2*time.Hour)
		mintOf("parent", 8*time.Hour, "grandparent")
		mintOf("included", 3*time.Hour)
		mintOf("child", 24*time.Hour, "parent", "grandparent", "included")
		if !ends["child"].Equal(ends["grandparent"]) {
			t.Errorf("the child ends at %s, want %s", ends["child"], ends["grandparent"])
		}
		if revoked == "none" {
			c.advance(revocationTTL)
			if _, err := there.Open(t.Context(), tokens["child"]); err != nil {
				t.Error(err)
			}
			c.advance(3 * time.Hour)
			refused(t, openError(t, there, tokens["child"]), ErrExpiredToken, tokens["child"])
			continue
		}
		if err := here.Revoke(t.Context(), tokens[revoked]); err != nil {
			t.Fatal(err)
		}
		c.advance(revocationTTL)
		for _, server := range []*Tokens{here, there, newTokens(t, records, c)} {
			refused(t, openError(t, server, tokens["child"]), ErrRevokedToken, tokens["child"])
		}
		if _, err := there.Open(t.Context(), tokens["included"]); (revoked == "included") != errors.Is(err, ErrRevokedToken) {
			t.Errorf("what the child is made of, after %s was revoked: %v", revoked, err)
		}
	}
}

// TestManyAncestors: revocations are looked up for as many ancestors as a grant may have.
func TestManyAncestors(t *testing.T) {
	tokens := newTokens(t, newMemory(), noon())
	g := testGrant()
	for range maxAncestors + 1 {
		g.Ancestors = append(g.Ancestors, "until/2026-11-27/revoked/x")
	}
	if _, _, err := tokens.Mint(t.Context(), g, 0); err == nil {
		t.Errorf("a grant with %d ancestors was made", len(g.Ancestors))
	}
	g.Ancestors = g.Ancestors[:maxAncestors]
	if _, _, err := tokens.Mint(t.Context(), g, 0); err != nil {
		t.Error(err)
	}
}
