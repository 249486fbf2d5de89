package registry

import (
	"net/http"
	"regexp"
	"slices"
	"strings"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/front"
)

// kind is the kind of resource that a path names.
type kind int

const (
	kindPing      kind = iota + 1 // /v2/
	kindManifest                  // /v2/<name>/manifests/<tag or digest>
	kindBlob                      // /v2/<name>/blobs/<digest>
	kindTags                      // /v2/<name>/tags/list
	kindReferrers                 // /v2/<name>/referrers/<digest>
)

func (k kind) String() string {
	return [...]string{"other", "ping", "manifest", "blob", "tags", "referrers"}[k]
}

// route is a parsed path. token and name are empty for a ping. Manifests have a
// tag or a digest; blobs and referrers have a digest.
type route struct {
	kind   kind
	token  auth.Token // or the name of a recipe
	name   string     // repository without its registry: library/ubuntu
	tag    string
	digest digest.Digest
}

var (
	tagPattern  = regexp.MustCompile(`^` + reference.TagRegexp.String() + `$`)
	namePattern = regexp.MustCompile(`^[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*)*$`)
)

// maxName is the length many clients allow for a repository name.
const maxName = 255

// parseRoute reads a decoded path. ok is false for any path that is not spelled
// exactly as the package comment says.
func parseRoute(path string) (r route, ok bool) {
	rest, ok := trimToken(path, &r.token)
	if !ok {
		return route{}, false
	}
	if rest == "" {
		return route{kind: kindPing, token: r.token}, true
	}
	parts := strings.Split(rest, "/")
	if len(parts) < 3 || r.token == "" {
		return route{}, false
	}
	r.name = strings.Join(parts[:len(parts)-2], "/")
	if len(r.name) > maxName || !namePattern.MatchString(r.name) {
		return route{}, false
	}
	return r, r.parseResource(parts[len(parts)-2], parts[len(parts)-1])
}

// trimToken removes either form of prefix from the path and reads the token. The
// rest is "<name>/<resource>", or empty for a ping.
func trimToken(path string, token *auth.Token) (rest string, ok bool) {
	if path == "/v2" || path == "/v2/" {
		return "", true
	}
	prefix, suffix := "/v2/wt/", "/"
	if strings.HasPrefix(path, "/wt/") {
		prefix, suffix = "/wt/", "/v2/"
		if strings.HasSuffix(path, "/v2") {
			path += "/"
		}
	}
	path, ok = strings.CutPrefix(path, prefix)
	if !ok {
		return "", false
	}
	component, rest, ok := strings.Cut(path, suffix)
	if !ok || component == "" || strings.Contains(component, "/") {
		return "", false
	}
	*token = auth.Token(component)
	return rest, rest != "" || suffix == "/v2/"
}

func (r *route) parseResource(resource, ref string) bool {
	d := digest.Digest(ref)
	isDigest := d.Validate() == nil
	switch resource {
	case "manifests":
		r.kind = kindManifest
		if !isDigest && !tagPattern.MatchString(ref) {
			return false
		}
	case "blobs":
		r.kind = kindBlob
		if !isDigest {
			return false
		}
	case "referrers":
		r.kind = kindReferrers
		if !isDigest {
			return false
		}
	case "tags":
		r.kind = kindTags
		return ref == "list"
	default:
		return false
	}
	if isDigest {
		r.digest = d
	} else {
		r.tag = ref
	}
	return true
}

// malformed returns the refusal of a path that is no route: of the part that is
// spelled wrongly, if the others are there.
func malformed(path string) error {
	var token auth.Token
	rest, ok := trimToken(path, &token)
	parts := strings.Split(rest, "/")
	if n := len(parts); ok && n >= 3 && token != "" {
		name, resource, ref := strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]
		known := slices.Contains([]string{"manifests", "blobs", "referrers"}, resource) && ref != "" &&
			!slices.ContainsFunc(parts, func(part string) bool { return strings.Trim(part, ".") == "" }) // no name, but another path
		switch {
		case known && (len(name) > maxName || !namePattern.MatchString(name)):
			return front.Refuse(http.StatusBadRequest, front.NameInvalid, "%q is not the name of a repository: want lower-case letters, digits and separators, at most %d characters", auth.Redact(name), maxName)
		case known && (resource != "manifests" || strings.Contains(ref, ":")) && digest.Digest(ref).Validate() != nil:
			return front.Refuse(http.StatusBadRequest, front.DigestInvalid, "%q is not a digest: want sha256: and 64 of 0-9 and a-f", auth.Redact(ref))
		case known && resource == "manifests" && !tagPattern.MatchString(ref):
			return front.Refuse(http.StatusBadRequest, front.TagInvalid, "%q is not a tag: want letters, digits, dots, hyphens and underscores, at most 128", auth.Redact(ref))
		}
	}
	return front.Refuse(http.StatusNotFound, front.NameUnknown,
		"no such repository: image names on this server start with wt/<token>/, which the API or \"waveproxy augment\" hands out, or with wt/<recipe>/")
}
