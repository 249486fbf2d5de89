package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/upstream"
)

// lists reads the lists of upstreams: tags, and what is attached to a digest. It keeps
// them as long as tags. It is safe for concurrent use.
type lists struct {
	client   *upstream.Client
	failures *failures
	known    *sizedlru.Cache[string, list] // by namedRepository.memoryKey
	reads    flight.Calls
}

// list is a page of a list. It is immutable.
type list struct {
	items []byte // an array of tags or descriptors, in JSON
	next  string // the encoded query of the next page; empty if there is none
}

const (
	// maxListQuery bounds the query for a page, in bytes.
	maxListQuery = upstream.MaxQuery
	// maxPages and maxReferrers bound the pages, and the bytes of all of them, that are
	// read for one list of referrers.
	maxPages     = 16
	maxReferrers = 4 << 20
	// listsCost bounds the lists in memory, in bytes.
	listsCost = 8 << 20
)

func newLists(client *upstream.Client, f *failures) *lists {
	return &lists{client: client, failures: f, known: sizedlru.New[string, list](listsCost, 1024, tagTTL)}
}

// get returns a list from memory, or reads it once for all concurrent callers.
func (l *lists) get(ctx context.Context, key string, read func(context.Context) (list, error)) (list, error) {
	if known, ok := l.known.Get(key); ok {
		return known, nil
	}
	if err := l.failures.recentFailure(key, augment.Recipe{}); err != nil {
		return list{}, err
	}
	return flight.Do(ctx, &l.reads, key, lookUpTimeout, func(ctx context.Context) (list, error) {
		found, err := read(ctx)
		if err != nil {
			l.failures.noteFailure(key, augment.Recipe{}, err)
			return list{}, err
		}
		l.known.Add(key, found, failureCost+textCost(key)+int64(len(found.items)+len(found.next)))
		return found, nil
	})
}

// tags returns a page of the tags of a repository, by its encoded query.
func (l *lists) tags(ctx context.Context, q namedRepository, query string) (list, error) {
	return l.get(ctx, q.memoryKey("tags "+query), func(ctx context.Context) (list, error) {
		page, err := l.client.Repository(q.target()).Tags(ctx, query)
		if err != nil {
			return list{}, err
		}
		release, err := budget.From(ctx).Hold(budget.Memory, decodingCost*int64(len(page.Data)))
		if err != nil {
			return list{}, err
		}
		defer release()
		var doc struct {
			Tags []string `json:"tags"`
		}
		if err := page.Decode(ctx, &doc); err != nil {
			return list{}, err
		}
		items, err := json.Marshal(append([]string{}, doc.Tags...)) // null is no list
		return list{items, page.Next}, err
	})
}

// referrers returns the descriptors of what is attached to a digest at the upstream, those
// of one type if there is one. Where the registry does not list referrers, its tag for the
// digest does (OCI distribution specification, "Referrers Tag Schema").
func (l *lists) referrers(ctx context.Context, q namedRepository, subject digest.Digest, artifactType string) (list, error) {
	return l.get(ctx, q.memoryKey("referrers "+subject.String()+" "+artifactType), func(ctx context.Context) (list, error) {
		repository := l.client.Repository(q.target())
		room := budget.From(ctx).Holding(budget.Memory)
		defer room.Release()
		found, err := readReferrers(ctx, room, repository, subject, artifactType)
		if err != nil && lacksReferrers(err) {
			var tagged augment.Object
			tagged, err = repository.Manifest(ctx, subject.Algorithm().String()+"-"+subject.Encoded())
			if errors.Is(err, augment.ErrAbsent) {
				return list{items: []byte("[]")}, nil
			}
			if err == nil {
				found, err = descriptorsIn(ctx, room, tagged, artifactType)
			}
		}
		if err != nil {
			return list{}, err
		}
		return list{items: append(append([]byte{'['}, bytes.Join(found, []byte{','})...), ']')}, nil
	})
}

// lacksReferrers reports whether a registry does not know the API. A refusal or a failure
// says nothing of what is attached.
func lacksReferrers(err error) bool {
	if e, ok := errors.AsType[*upstream.Error](err); ok {
		return errors.Is(err, augment.ErrAbsent) || e.Kind == upstream.Failed && e.Status >= 400 && e.Status < 500 && !upstream.IsTransient(err) || e.Status == http.StatusNotImplemented
	}
	_, unreadable := errors.AsType[*augment.Error](err)
	return unreadable // a page for people, say
}

func readReferrers(ctx context.Context, room *budget.Holding, repository *upstream.Repository, subject digest.Digest, artifactType string) ([][]byte, error) {
	query := ""
	if artifactType != "" {
		query = url.Values{"artifactType": {artifactType}}.Encode()
	}
	var found [][]byte
	size := 0
	for range maxPages {
		page, err := repository.Referrers(ctx, subject, query)
		if err != nil {
			return nil, err
		}
		wanted := artifactType
		if page.Filtered {
			wanted = ""
		}
		items, err := descriptorsIn(ctx, room, page.Object, wanted)
		if err != nil {
			return nil, err
		}
		found, size = append(found, items...), size+len(page.Data)
		if size > maxReferrers {
			break
		}
		if query = page.Next; query == "" {
			return found, nil
		}
	}
	return nil, front.Refuse(http.StatusBadGateway, front.Unavailable, "the registry lists more than %d bytes or %d pages of referrers of %s", maxReferrers, maxPages, subject)
}

// keptCost is how many bytes in memory a byte of a page costs until the list is whole:
// the entry, and its copy in the list.
const keptCost = 2

// descriptorsIn returns the entries of an index with an artifact type, or all. room holds
// what they cost.
func descriptorsIn(ctx context.Context, room *budget.Holding, index augment.Object, artifactType string) ([][]byte, error) {
	release, err := budget.From(ctx).Hold(budget.Memory, decodingCost*int64(len(index.Data)))
	if err != nil {
		return nil, err
	}
	defer release()
	var doc struct {
		Manifests []json.RawMessage `json:"manifests"`
	}
	if err := index.Decode(ctx, &doc); err != nil {
		return nil, err
	}
	if err := room.Grow(keptCost * int64(len(index.Data))); err != nil {
		return nil, err
	}
	var found [][]byte
	for _, raw := range doc.Manifests {
		var d ocispec.Descriptor
		if err := json.Unmarshal(raw, &d); err != nil || d.Digest.Validate() != nil {
			return nil, augment.Errorf("the list of referrers %s has an entry that is no descriptor", index.Digest)
		}
		if artifactType == "" || d.ArtifactType == artifactType {
			found = append(found, raw)
		}
	}
	return found, nil
}

// serveTags lists the upstream's tags, with the recipe's credentials and in the upstream's
// pages.
func (l *lists) serveTags(w http.ResponseWriter, r *http.Request, q namedRepository, rt route) error {
	query := r.URL.Query()
	ns := query.Get("ns")
	query.Del("ns")
	page, err := l.tags(r.Context(), q, query.Encode()) // values cost more than their text while they wait
	if err != nil {
		return err
	}
	if page.next != "" {
		link := url.URL{Path: r.URL.Path, RawQuery: page.next}
		if ns != "" {
			link.RawQuery += "&ns=" + url.QueryEscape(ns)
		}
		w.Header().Set("Link", "<"+link.String()+`>; rel="next"`)
	}
	w.Header().Set("Cache-Control", tagCacheControl)
	name, err := json.Marshal("wt/" + string(rt.token) + "/" + rt.name)
	if err != nil {
		return fmt.Errorf("encode name: %w", err)
	}
	return serveList(w, r, "application/json", `{"name":`+string(name)+`,"tags":`, page.items)
}

// serveReferrers lists what is attached to a digest to which nothing was added.
func (l *lists) serveReferrers(w http.ResponseWriter, r *http.Request, q namedRepository, subject digest.Digest) error {
	wanted := r.URL.Query().Get("artifactType")
	if len(wanted) > maxListQuery {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "the artifact type has more than %d bytes", maxListQuery)
	}
	found, err := l.referrers(r.Context(), q, subject, wanted)
	if err != nil {
		return err
	}
	if wanted != "" {
		w.Header().Set("OCI-Filters-Applied", "artifactType")
	}
	return serveList(w, r, ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"mediaType":"`+ocispec.MediaTypeImageIndex+`","manifests":`, found.items)
}

// serveList answers with an object of JSON, from its beginning and its last member, a list.
// The client is charged for the list until it has read it, although others may share it.
func serveList(w http.ResponseWriter, r *http.Request, mediaType, begin string, items []byte) error {
	if err := budget.HoldFor(r.Context(), budget.Memory, int64(len(items))); err != nil {
		return err
	}
	size := int64(len(begin) + len(items) + len("}"))
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
	if r.Method == http.MethodHead {
		return nil
	}
	// In small pieces, because each has a time-out of its own. An error means that the
	// client has left.
	_, _ = io.CopyN(w, io.MultiReader(strings.NewReader(begin), bytes.NewReader(items), strings.NewReader("}")), size)
	return nil
}
