package upstream

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
)

// policy says which repositories may be read at all, by their names. Where a
// host may be is the guard's matter.
type policy struct {
	allow, deny []auth.Pattern
	mentioned   []auth.Pattern // the registries of allow, each as a whole
}

func newPolicy(allow, deny []auth.Pattern) (policy, error) {
	p := policy{allow: allow, deny: deny}
	for _, a := range allow {
		host, _, _ := strings.Cut(a.String(), "/")
		whole, err := auth.ParsePattern(host)
		if err != nil {
			return p, fmt.Errorf("upstreams.allow: %w", err)
		}
		p.mentioned = append(p.mentioned, whole)
	}
	return p, nil
}

// refusal says why a repository is not read, or nothing. Without a repository
// the question is whether the registry has any that may be.
//
// deny holds for every name of the place that the registry's leads to, or a port
// would be the way around it. allow holds for the registry alone.
func (p policy) refusal(registry, repository string) string {
	name := strings.TrimSuffix(registry+"/"+repository, "/")
	if p.denies(registry, "") || repository != "" && p.denies(registry, repository) {
		return denied(name)
	}
	allow := p.allow
	if repository == "" {
		allow = p.mentioned
	}
	if len(allow) > 0 && !auth.MatchAny(allow, registry, repository) {
		return "this server does not pull from " + name + ": upstreams.allow in its configuration does not name it"
	}
	return ""
}

func denied(name string) string {
	return "this server does not pull from " + name + ": upstreams.deny in its configuration forbids it"
}

// denies reports whether deny has the repository or, without one, the whole
// registry.
func (p policy) denies(registry, repository string) bool {
	return slices.ContainsFunc(p.deny, func(d auth.Pattern) bool { return d.Covers(registry, repository) })
}

// permitted is the one place that applies the policy: to a call's target, or to
// the URL of a call that has none.
func (c *Client) permitted(cl *call, u *url.URL) error {
	var reason string
	if t := cl.target; t.Registry != "" {
		if _, err := auth.RegistryHost(t.Registry); err != nil {
			e := cl.newError(Forbidden)
			e.detail = err.Error()
			return e
		}
		reason = c.policy.refusal(t.Registry, t.Repository)
	} else {
		reason = c.refusedHost(u)
	}
	if reason == "" {
		if c.permit != nil && cl.target.Repository != "" {
			return c.permit(cl.target)
		}
		return nil
	}
	e := cl.newError(Forbidden)
	e.detail = reason
	return e
}

// refusedHost says why nothing is fetched from a URL's host: because it is a
// registry that is denied as a whole. A plain URL has no repository, so
// patterns with a path cannot tell.
func (c *Client) refusedHost(u *url.URL) string {
	names := []string{u.Host}
	for name, base := range c.registries {
		if address(base) == address(u) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		if c.policy.denies(name, "") {
			return denied(u.Host)
		}
	}
	return ""
}
