package assemble

import (
	"context"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/upstream"
)

// bases reads base images for any number of submissions at once: a workflow
// asks for one image in hundreds of tasks within seconds. What a tag names is
// confirmed with HEAD, once for all submissions of confirmTTL; objects by digest are
// trusted as long as they are remembered.
// Entries are keyed by identity and repository, because access differs between
// identities.
type bases struct {
	client  *upstream.Client
	tags    *sizedlru.Cache[baseKey, baseTag]
	objects *sizedlru.Cache[baseKey, augment.Object]
	flights flight.Calls
	indexes *indexes
	now     func() time.Time
}

// baseTag is what a tag named when the registry was last asked.
type baseTag struct {
	object    augment.Object
	confirmed time.Time
}

type baseKey struct {
	target auth.Target
	ref    string // tag or digest
}

const (
	// confirmTTL is how long a moved tag may go unnoticed by submissions, so that a
	// thousand tasks cost a request in two seconds.
	confirmTTL = 2 * time.Second
	// tagTTL is how long it may while the registry cannot be asked.
	tagTTL        = 30 * time.Second
	objectTTL     = 10 * time.Minute
	cachedObjects = 512
	maxCached     = 128 << 10 // bytes of one object; all real ones are far smaller
	// tagsCost and objectsCost bound what is remembered, in bytes, and objectCost is
	// what an object costs beside its bytes.
	tagsCost    = 4 << 20
	objectsCost = 16 << 20
	objectCost  = 1 << 10
	readTimeout = 2 * time.Minute
)

func newBases(client *upstream.Client, records Records) *bases {
	return &bases{
		client:  client,
		now:     time.Now,
		tags:    sizedlru.New[baseKey, baseTag](tagsCost, cachedObjects, objectTTL),
		objects: sizedlru.New[baseKey, augment.Object](objectsCost, cachedObjects, objectTTL),
		indexes: newIndexes(records),
	}
}

// repository returns a Source for one repository.
func (b *bases) repository(t auth.Target) baseSource {
	return baseSource{b, t, b.client.Repository(t)}
}

type baseSource struct {
	*bases
	target auth.Target
	repo   *upstream.Repository
}

func (s baseSource) Manifest(ctx context.Context, ref string) (augment.Object, error) {
	if digest.Digest(ref).Validate() != nil {
		return s.tag(ctx, ref)
	}
	return s.read(ctx, "manifest", ref, func(ctx context.Context) (augment.Object, error) { return s.repo.Manifest(ctx, ref) })
}

// tag returns what the tag names now. A tag that is remembered is confirmed, and read
// again only if it has moved, once for all concurrent callers.
func (s baseSource) tag(ctx context.Context, tag string) (augment.Object, error) {
	key := baseKey{s.target, tag}
	if known, ok := s.tags.Get(key); ok && s.age(known) < confirmTTL {
		return known.object, nil
	}
	return flight.Do(ctx, &s.flights, fmt.Sprintf("tag %q", key), readTimeout, func(ctx context.Context) (augment.Object, error) {
		known, ok := s.tags.Get(key)
		if ok && s.age(known) < confirmTTL {
			return known.object, nil // a flight ended since we looked
		}
		if ok {
			d, got, err := s.repo.Digest(ctx, tag)
			switch {
			case got != nil:
				s.keepTag(key, *got)
				return *got, nil
			case err == nil && d == known.object.Digest:
				s.keepTag(key, known.object)
				return known.object, nil
			case upstream.IsTransient(err) && s.age(known) < tagTTL:
				return known.object, nil
			case err != nil:
				s.tags.Remove(key)
				return augment.Object{}, err
			}
		}
		o, err := s.repo.Manifest(ctx, tag)
		if err == nil {
			s.keepTag(key, o)
		}
		return o, err
	})
}

func (b *bases) age(t baseTag) time.Duration { return b.now().Sub(t.confirmed) }

// keepTag remembers that a tag has just turned out to name the object.
func (b *bases) keepTag(key baseKey, o augment.Object) {
	if len(o.Data) <= maxCached {
		b.tags.Add(key, baseTag{o, b.now()}, objectCost+int64(cap(o.Data)))
	}
}

func (s baseSource) Blob(ctx context.Context, d ocispec.Descriptor) (augment.Object, error) {
	return s.read(ctx, "blob", d.Digest.String(), func(ctx context.Context) (augment.Object, error) { return s.repo.Blob(ctx, d) })
}

// read returns an object from memory, or from one request that all concurrent callers
// share. The request continues when the caller that started it goes away.
func (s baseSource) read(ctx context.Context, what, ref string, fetch func(context.Context) (augment.Object, error)) (augment.Object, error) {
	key, cache := baseKey{s.target, ref}, s.objects
	if o, ok := cache.Get(key); ok {
		return o, nil
	}
	return flight.Do(ctx, &s.flights, fmt.Sprintf("%s %q", what, key), readTimeout, func(ctx context.Context) (augment.Object, error) {
		if o, ok := cache.Get(key); ok {
			return o, nil // a flight ended since we looked
		}
		o, err := fetch(ctx)
		if err == nil && len(o.Data) <= maxCached {
			cache.Add(key, o, objectCost+int64(cap(o.Data)))
		}
		return o, err
	})
}
