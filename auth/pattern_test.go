package auth

import "testing"

func TestPatternMatches(t *testing.T) {
	for _, c := range []struct {
		pattern, registry, repository string
		want                          bool
	}{
		{"docker.io", "docker.io", "library/ubuntu", true},
		{"docker.io/library/*", "docker.io", "library/ubuntu", true},
		{"docker.io/library/*", "docker.io", "libraryx/ubuntu", false},
		{"docker.io/library/ubuntu", "docker.io", "library/ubuntu-evil", false},
		{"docker.io/library/ubuntu", "docker.io", "evil/library/ubuntu", false},
		{"quay.io/*", "quay.io", "a/b/c", true},
		{"quay.io/*", "quay.io.evil.example", "a", false},
		{"quay.io/*", "evil.example", "quay.io/a", false},
		{"*.example.org", "a.example.org", "x", true},
		{"*.example.org", "a.b.example.org", "x", true},
		{"*.example.org", "example.org", "x", false},
		{"*/team/*", "evil.example", "x/team/y", false},
		{"*/team/*", "quay.io", "team/y", true},
		{"*", "quay.io", "team/y", true},
		{"registry.local:5000/a", "registry.local:5000", "a", true},
		{"registry.local:5000/a", "REGISTRY.local:5000", "a", true},
		{"registry.local/a", "registryxlocal", "a", false},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Match(c.registry, c.repository); got != c.want {
			t.Errorf("%s matches %s/%s: %v, want %v", c.pattern, c.registry, c.repository, got, c.want)
		}
	}
	if (Pattern{}).Match("docker.io", "library/ubuntu") || (Pattern{}).MatchRegistry("docker.io") {
		t.Error("the zero pattern matches")
	}
}

func TestPatternOfAWholeRegistry(t *testing.T) {
	for text, want := range map[string]bool{"quay.io": true, "quay.io/*": true, "*": true, "quay.io/team/*": false, "*.io": true, "docker.io": false} {
		p, err := ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.MatchRegistry("quay.io"); got != want {
			t.Errorf("%s covers quay.io: %v, want %v", text, got, want)
		}
	}
}

func TestPatternRefusals(t *testing.T) {
	for _, text := range []string{"", "/", "/library/*", "https://quay.io", "quay.io/", "Quay.io", "quay.io/a:tag", "quay.io/a@sha256:0", "quay.io/[ab]", "quay.io/a b", `quay.io\a`} {
		if _, err := ParsePattern(text); err == nil {
			t.Errorf("%q is taken for a pattern", text)
		}
	}
}
