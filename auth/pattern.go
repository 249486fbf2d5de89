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
	case strings.ContainsAny(text, "@?{}\\ ") || strings.ContainsAny(path, "[]") || text != strings.ToLower(text):
		return Pattern{}, fmt.Errorf("pattern %q: names have lower-case letters, digits and ._-:/ only, and * is the one wildcard", text)
	case hasPath && path == "":
		return Pattern{}, fmt.Errorf("pattern %q ends in a slash: leave it out, or put * behind it", text)
	case !hasPath:
		path = "*"
	case strings.Contains(path, ":"):
		return Pattern{}, fmt.Errorf("pattern %q has a tag: patterns are about repositories", text)
	}
	if !strings.Contains(host, "*") {
		plain, err := RegistryHost(host)
		if err != nil {
			return Pattern{}, fmt.Errorf("pattern %q: %w", text, err)
		}
		host = plain
	}
	expr := "^" + wildcards(host, "[^/]*") + "/" + wildcards(path, ".*") + "$"
	return Pattern{text, regexp.MustCompile(expr), regexp.MustCompile("^" + wildcards(host, "[^/]*") + "$")}, nil
}

func wildcards(text, any string) string {
	return strings.ReplaceAll(regexp.QuoteMeta(text), `\*`, any)
}

// Match reports whether the pattern matches the repository at the registry, however
// the registry is spelled (RegistryHost). It matches nothing at what is no host.
func (p Pattern) Match(registry, repository string) bool {
	host, err := RegistryHost(registry)
	return err == nil && p.matchName(host, repository)
}

// matchName is Match with the registry as it is.
func (p Pattern) matchName(registry, repository string) bool {
	return p.expr != nil && p.expr.MatchString(registry+"/"+repository)
}

// Covers reports whether the pattern matches the repository under any name of the
// place that a registry's host leads to: of Docker Hub, or with the default port of
// a scheme. A pattern that forbids is asked this, because "*:443" and "*.docker.io"
// mean that place too. An empty repository asks for everything at the registry.
func (p Pattern) Covers(registry, repository string) bool {
	if p.expr == nil || repository == "" && !p.wholeRegistry() {
		return false
	}
	host, err := RegistryHost(registry)
	if err != nil {
		return false
	}
	bare := strings.TrimSuffix(host, ":80")
	names := []string{host, bare, bare + ":443", bare + ":80"}
	if bare == DockerHub || slices.Contains(dockerHub, bare) {
		names = append(names, dockerHub...)
	}
	return slices.ContainsFunc(names, func(name string) bool { return p.matchName(name, repository) })
}

func (p Pattern) wholeRegistry() bool { return strings.HasSuffix(p.expr.String(), "/.*$") }

// MatchRegistry reports whether the pattern covers everything at the registry.
func (p Pattern) MatchRegistry(registry string) bool {
	return p.expr != nil && p.wholeRegistry() && p.Match(registry, "")
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
