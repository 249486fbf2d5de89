package auth

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Policy is what a caller may do. The zero Policy allows everything.
type Policy struct {
	Images      []Pattern     // that may be used; empty: any
	Platforms   []string      // that may be asked for, as augment.FormatPlatform writes them; empty: any
	TTL         time.Duration // the longest lifetime of a token; 0: the server's
	Credentials []string      // whose reach the registries, in order; nil: the shared ones
}

// Denied is what a caller may not do. Its text is for the caller.
type Denied struct{ message string }

func (d *Denied) Error() string { return d.message }

func deny(format string, args ...any) error { return &Denied{fmt.Sprintf(format, args...)} }

// CheckImage returns a *Denied if images of the repository may not be used.
func (p Policy) CheckImage(registry, repository string) error {
	if len(p.Images) == 0 || MatchAny(p.Images, registry, repository) {
		return nil
	}
	return deny("you may not use %s/%s, only %s: ask the administrator of this server (api.identities)", registry, repository, join(p.Images))
}

// CheckPlatforms returns the platforms to augment: those that are asked for, or
// all that are allowed if none is. One that is not allowed is a *Denied.
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

// includes reports whether all that is asked for is in the allowed platform.
// Augment takes one without a variant for every variant.
func includes(allowed, asked string) bool { return strings.HasPrefix(asked+"/", allowed+"/") }

// CheckTTL returns the lifetime to mint a token with: what is asked for or, for
// 0, the longest that is allowed. A longer one is a *Denied.
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

// Policies are those of all callers. It is safe for concurrent use.
type Policies struct{ byIdentity map[string]Policy }

// NewPolicies takes the policies of identities; that of "*" is for all others,
// who may do everything if there is none.
func NewPolicies(byIdentity map[string]Policy) *Policies {
	return &Policies{maps.Clone(byIdentity)}
}

// Of returns the policy of an identity.
func (p *Policies) Of(identity string) Policy {
	if own, ok := p.byIdentity[identity]; ok && identity != everybody {
		return own
	}
	return p.byIdentity[everybody]
}
