package auth

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Pattern matches repositories by registry and path, as a full image name has
// them: "docker.io/library/ubuntu". "*" stands for any characters, but never for
// the slash after the registry: "quay.io/*" is all of Quay, and
// "*.dkr.ecr.*.amazonaws.com/team/*" is the repositories of a team in any region.
// A pattern without a slash is a registry with everything in it. The zero Pattern
// matches nothing. Safe for concurrent use.
type Pattern struct {
	text string
	expr *regexp.Regexp
	host *regexp.Regexp
}

// ParsePattern returns the pattern in the text, or an error that says what is wrong
// with it.
func ParsePattern(text string) (Pattern, error) {
	host, path, hasPath := strings.Cut(text, "/")
	switch {
	case host == "":
		return Pattern{}, fmt.Errorf("pattern %q: want a registry, and a path or none: docker.io/library/*", text)
	case strings.Contains(text, "://"):
		return Pattern{}, fmt.Errorf("pattern %q is a URL: want a registry, and a path or none", text)
	case strings.ContainsAny(text, "@?[]{}\\ ") || text != strings.ToLower(text):
		return Pattern{}, fmt.Errorf("pattern %q: names have lower-case letters, digits and ._-:/ only, and * is the one wildcard", text)
	case hasPath && path == "":
		return Pattern{}, fmt.Errorf("pattern %q ends in a slash: leave it out, or put * behind it", text)
	case !hasPath:
		path = "*"
	case strings.Contains(path, ":"):
		return Pattern{}, fmt.Errorf("pattern %q has a tag: patterns are about repositories", text)
	}
	expr := "^" + wildcards(host, "[^/]*") + "/" + wildcards(path, ".*") + "$"
	return Pattern{text, regexp.MustCompile(expr), regexp.MustCompile("^" + wildcards(host, "[^/]*") + "$")}, nil
}

func wildcards(text, any string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, any)
}

// Match reports whether the pattern matches the repository at the registry.
func (p Pattern) Match(registry, repository string) bool {
	return p.expr != nil && p.expr.MatchString(strings.ToLower(registry)+"/"+repository)
}

// MatchRegistry reports whether the pattern covers everything at the registry.
func (p Pattern) MatchRegistry(registry string) bool {
	return p.expr != nil && strings.HasSuffix(p.expr.String(), "/.*$") && p.Match(registry, "")
}

// reaches reports whether the pattern can match a repository at the registry.
func (p Pattern) reaches(registry string) bool {
	return p.host != nil && p.host.MatchString(strings.ToLower(registry))
}

// UnmarshalText reads a pattern as ParsePattern does.
func (p *Pattern) UnmarshalText(text []byte) (err error) {
	*p, err = ParsePattern(string(text))
	return err
}

// MarshalText returns the pattern as UnmarshalText reads it.
func (p Pattern) MarshalText() ([]byte, error) { return []byte(p.text), nil }

// Equal reports whether both patterns were written the same way.
func (p Pattern) Equal(other Pattern) bool { return p.text == other.text }

// String returns the pattern as it was written.
func (p Pattern) String() string { return p.text }

// MatchAny reports whether one of the patterns matches.
func MatchAny(patterns []Pattern, registry, repository string) bool {
	return slices.ContainsFunc(patterns, func(p Pattern) bool { return p.Match(registry, repository) })
}
