package upstream

import (
	"context"
	"net/http"
	"net/url"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
)

// Listing is one page of a list, as the registry sends it.
type Listing struct {
	augment.Object
	// Next is the query of the next page, encoded, of at most MaxQuery bytes. It is empty
	// if this page is the last.
	Next string
	// Filtered tells that the registry has filtered referrers by their artifact type.
	Filtered bool
}

// MaxQuery bounds the encoded query of a page, in bytes. Some registries put a token into
// it. As url.Values it takes some fifty times its shortest form, so it is kept as text.
const MaxQuery = 4 << 10

// Tags returns the page of the repository's tags that an encoded query asks for (n, last,
// or what Listing.Next has).
func (r *Repository) Tags(ctx context.Context, query string) (Listing, error) {
	return r.list(ctx, r.call("list tags of", ""), r.url("tags", "list"), query, "application/json")
}

// Referrers returns the page of what refers to a digest that an encoded
// query asks for (artifactType, or what Listing.Next has). A registry without this API answers 404, and
// some answer with other errors.
func (r *Repository) Referrers(ctx context.Context, d digest.Digest, query string) (Listing, error) {
	return r.list(ctx, r.call("list referrers of", "@"+d.String()), r.url("referrers", d.String()), query, ocispec.MediaTypeImageIndex)
}

func (r *Repository) list(ctx context.Context, c *call, u *url.URL, query, mediaTypes string) (Listing, error) {
	u.RawQuery = query
	resp, data, err := r.object(ctx, c, u, http.Header{"Accept": {mediaTypes}}) //nolint:bodyclose // object has closed it
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Object: augment.NewObject(mediaType(resp.Header), data), Filtered: resp.Header.Get("OCI-Filters-Applied") != ""}
	if link := nextLink(resp.Header); link != nil {
		size := len(link.RawQuery)
		if size <= MaxQuery {
			l.Next = link.Query().Encode()
			size = len(l.Next)
		}
		if size > MaxQuery {
			return Listing{}, c.invalid("links to a next page with a query of %d bytes, at most %d are taken", size, MaxQuery)
		}
	}
	return l, nil
}

// nextLink returns the URL of the next page (RFC 8288), or nil. Only its query may be used:
// the host and path are the registry's words.
func nextLink(h http.Header) *url.URL {
	for _, line := range h.Values("Link") {
		for link := range strings.SplitSeq(line, ", <") {
			target, parameters, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(link), "<"), ">")
			rel := strings.ToLower(strings.ReplaceAll(strings.ReplaceAll(parameters, " ", ""), `"`, ""))
			if !ok || !strings.Contains(rel+";", ";rel=next;") {
				continue
			}
			if u, err := url.Parse(target); err == nil && u.RawQuery != "" {
				return u
			}
		}
	}
	return nil
}
