package upstream

import (
	"fmt"
	"net/url"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
)

// policy says which repositories may be read at all, by their names. Where a
// host may be is the guard's matter.
type policy struct {
	allow, deny []auth.Pattern
	mentioned   []auth.Pattern // the registries of allow, each as a whole
	touched     []auth.Pattern // the registries of deny, each as a whole
}

func newPolicy(allow, deny []auth.Pattern) (p policy, err error) {
	p = policy{allow: allow, deny: deny}
	if p.mentioned, err = registriesOf(allow); err != nil {
		return p, fmt.Errorf("upstreams.allow: %w", err)
	}
	if p.touched, err = registriesOf(deny); err != nil {
		return p, fmt.Errorf("upstreams.deny: %w", err)
	}
	return p, nil
}

func registriesOf(patterns []auth.Pattern) (whole []auth.Pattern, err error) {
	for _, p := range patterns {
		host, _, _ := strings.Cut(p.String(), "/")
		w, err := auth.ParsePattern(host)
		if err != nil {
			return nil, err
		}
		whole = append(whole, w)
	}
	return whole, nil
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
	return covered(p.deny, registry, repository)
}

// wholly reports whether everything at the registry may be read.
func (p policy) wholly(registry string) bool {
	if covered(p.touched, registry, "") {
		return false
	}
	for _, a := range p.allow {
		if a.MatchRegistry(registry) {
			return true
		}
	}
	return len(p.allow) == 0
}

func covered(patterns []auth.Pattern, registry, repository string) bool {
	for _, p := range patterns {
		if p.Covers(registry, repository) {
			return true
		}
	}
	return false
}

// Check returns the error with which every call about the target's repository
// fails for its names: of Permit, or a Forbidden *Error because of allow or deny.
// It touches no network, so it may be asked at every pull.
func (c *Client) Check(t auth.Target) error {
	return c.permitted(c.Repository(t).call("pull from", ""), &url.URL{})
}

// permitted is the one place that applies the policy: to a call's target, or to
// the URL of a call that has none.
func (c *Client) permitted(cl *call, u *url.URL) error {
	t := cl.target
	if t.Registry == "" {
		return c.permittedURL(cl, u)
	}
	var reason string
	if _, err := auth.RegistryHost(t.Registry); err != nil {
		reason = err.Error()
	} else {
		reason = c.policy.refusal(t.Registry, t.Repository)
	}
	if reason != "" {
		return cl.forbidden(reason)
	}
	if c.permit != nil && t.Repository != "" {
		return c.permit(t)
	}
	return nil
}

func (cl *call) forbidden(reason string) error {
	e := cl.newError(Forbidden)
	e.detail = reason
	return e
}
