package upstream

import (
	"context"
	"errors"
	"maps"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/auth"
)

type identityKey struct{}

// As returns a context in which URLs are fetched on behalf of an identity. Without
// one they are the administrator's own, which the configuration names.
func As(ctx context.Context, identity string) context.Context {
	return context.WithValue(ctx, identityKey{}, identity)
}

// Identity returns the identity of As. ok is false if URLs are the administrator's own.
func Identity(ctx context.Context) (identity string, ok bool) {
	identity, ok = ctx.Value(identityKey{}).(string)
	return identity, ok
}

// CheckURL returns the error with which Fetch fails for the URL itself, before it
// touches the network.
func (c *Client) CheckURL(ctx context.Context, rawURL string) error {
	cl, u, err := newFetch(ctx, rawURL)
	if err != nil {
		return err
	}
	return c.permittedURL(cl, u)
}

// permittedURL applies the policy to a URL. What a registry has under /v2 is judged
// as the repository that the path names, whatever the URL's host is called. Any
// other path of a listed registry is open to a caller if the whole registry is, or
// if registries.<host>.files says so: a registry may show images there, too.
func (c *Client) permittedURL(cl *call, u *url.URL) error {
	repository := repositoryOf(u)
	if c.policy.denies(u.Host, "") || repository != "" && c.policy.denies(u.Host, repository) {
		return cl.forbidden(denied(strings.TrimSuffix(u.Host+"/"+repository, "/")))
	}
	names := c.namesOf(u)
	for _, name := range names {
		if c.policy.denies(name, "") || repository != "" && c.policy.denies(name, repository) {
			return cl.forbidden(denied(strings.TrimSuffix(u.Host+"/"+repository, "/")))
		}
	}
	var err error
	for _, name := range names { // by one of them is enough
		if err = c.permittedAt(cl, name, repository, isAPI(u)); err == nil {
			return nil
		}
	}
	return err
}

// namesOf returns the names of the listed registries that a URL leads to, sorted.
func (c *Client) namesOf(u *url.URL) (names []string) {
	for _, name := range slices.Sorted(maps.Keys(c.registries)) {
		if address(c.registries[name]) == address(u) {
			names = append(names, name)
		}
	}
	return names
}

// permittedAt judges a URL as one of a listed registry. An empty repository is any
// path that names none.
func (c *Client) permittedAt(cl *call, registry, repository string, api bool) error {
	identity, asCaller := cl.identity, cl.asCaller
	if repository != "" {
		if reason := c.policy.refusal(registry, repository); reason != "" {
			return cl.forbidden(reason)
		}
	} else {
		if !asCaller || c.files[registry] && !api {
			return nil
		}
		if !c.policy.wholly(registry) {
			return cl.forbidden("not all of " + registry + " may be read (upstreams.allow, upstreams.deny), and the URL names no repository of it: " + filesHint(registry))
		}
	}
	if c.permit == nil || !asCaller {
		return nil
	}
	err := c.permit(auth.Target{Identity: identity, Registry: registry, Repository: repository})
	if err != nil && repository == "" {
		return cl.forbidden("you may not use all of " + registry + " (api.identities), and the URL names no repository of it: " + filesHint(registry))
	}
	return err
}

func filesHint(registry string) string {
	return "the administrator of this server can set registries." + registry + ".files if other paths there are files that any caller may have"
}

// repositoryPath is a path of a registry's API that reads something of a repository.
var repositoryPath = regexp.MustCompile(`^/v2/([a-z0-9]+(?:[._/-]+[a-z0-9]+)*)/(?:blobs|manifests)/[^/]+$`)

// repositoryOf returns the repository that a URL's path names, or "". A path that a
// server may read in another way names none.
func repositoryOf(u *url.URL) string {
	if u.RawPath != "" || path.Clean(u.Path) != u.Path {
		return ""
	}
	m := repositoryPath.FindStringSubmatch(u.Path)
	if m == nil {
		return ""
	}
	return m[1]
}

// isAPI reports whether a server may take a URL's path for one of the registry's API.
func isAPI(u *url.URL) bool {
	clean := strings.ToLower(path.Clean("/" + u.Path))
	return u.RawPath != "" || clean == "/v2" || strings.HasPrefix(clean, "/v2/") || strings.Contains(clean, "%")
}

// reasonOf returns what an error of the policy says, without the call.
func reasonOf(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.detail
	}
	return err.Error()
}
