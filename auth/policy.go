package auth

import (
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/waveproxy/waveproxy/internal/brief"
)

// Policy is what a caller may do. The zero Policy allows everything.
type Policy struct {
	Images      []Pattern     // repositories to use; empty means any
	Platforms   []string      // platforms to ask for, as augment.FormatPlatform writes them; empty means any
	TTL         time.Duration // the longest lifetime of a token; 0 means the server's
	Credentials []string      // credential sets to try, in order; nil means the shared set
}

// Denied is the error for something that a caller may not do. Its text is meant for
// the caller.
type Denied struct{ message string }

func (d *Denied) Error() string { return d.message }

func deny(format string, args ...any) error { return &Denied{brief.Sprintf(format, args...)} }

// CheckImage returns a *Denied if images of the repository may not be used.
func (p Policy) CheckImage(registry, repository string) error {
	if len(p.Images) == 0 || MatchAny(p.Images, registry, repository) {
		return nil
	}
	return deny("you may not use %s/%s, only %s: ask the administrator of this server (api.identities)", registry, repository, join(p.Images))
}

// CheckRegistry returns a *Denied if no repository of the registry may be used.
func (p Policy) CheckRegistry(registry string) error {
	if len(p.Images) == 0 || slices.ContainsFunc(p.Images, func(i Pattern) bool { return i.reaches(registry) }) {
		return nil
	}
	return deny("you may not use %s, only %s: ask the administrator of this server (api.identities)", registry, join(p.Images))
}

// CheckPlatforms returns the platforms to augment: the platforms asked for, or all
// allowed ones if none is asked for. A platform that is not allowed is a *Denied.
func (p Policy) CheckPlatforms(asked []string) ([]string, error) {
	if len(p.Platforms) == 0 {
		return asked, nil
	}
	if len(asked) == 0 {
		return slices.Clone(p.Platforms), nil
	}
	for _, platform := range asked {
		if !slices.ContainsFunc(p.Platforms, func(allowed string) bool { return includes(allowed, platform) }) {
			return nil, deny("you may not ask for the platform %s, only for %s: ask the administrator of this server (api.identities)", platform, strings.Join(p.Platforms, ", "))
		}
	}
	return asked, nil
}

// includes reports whether the allowed platform covers the one asked for. A
// platform without a variant means every variant, as in augment.
func includes(allowed, asked string) bool { return strings.HasPrefix(asked+"/", allowed+"/") }

// CheckTTL returns the lifetime to mint a token with: the one asked for or, for 0,
// the longest one allowed. A longer lifetime is a *Denied.
func (p Policy) CheckTTL(asked time.Duration) (time.Duration, error) {
	switch {
	case p.TTL == 0:
		return asked, nil
	case asked == 0:
		return p.TTL, nil
	case asked > p.TTL:
		return 0, deny("you may not ask for a lifetime of %s, only for at most %s: ask the administrator of this server (api.identities)", asked, p.TTL)
	}
	return asked, nil
}

func join(patterns []Pattern) string {
	var texts []string
	for _, p := range patterns {
		texts = append(texts, p.String())
	}
	return strings.Join(texts, ", ")
}

// Policies holds the policies of all callers. Safe for concurrent use.
type Policies struct {
	byIdentity atomic.Pointer[map[string]Policy]
}

// NewPolicies returns the policies by identity. The policy of "*" applies to every
// identity without one of its own; without it they may do everything.
func NewPolicies(byIdentity map[string]Policy) *Policies {
	p := new(Policies)
	p.Replace(byIdentity)
	return p
}

// Replace puts other policies in place of all.
func (p *Policies) Replace(byIdentity map[string]Policy) {
	all := maps.Clone(byIdentity)
	p.byIdentity.Store(&all)
}

// Of returns the policy of an identity.
func (p *Policies) Of(identity string) Policy {
	all := *p.byIdentity.Load()
	if own, ok := all[identity]; ok && identity != allIdentities {
		return own
	}
	return all[allIdentities]
}
