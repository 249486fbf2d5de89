package assemble

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/fairqueue"
	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
	"github.com/waveproxy/waveproxy/layerindex"
)

// indexes provides the indexes of layers: from memory, from records beside the store, or from
// the layers themselves, each of which is read once. It is safe for concurrent use.
//
// An index of a layer that is in memory or recorded is given only to a caller that could
// read the layer, at the registry that sent it: it says which files the layer has.
type indexes struct {
	records Records
	small   *sizedlru.Cache[string, *layerindex.Index] // by record
	rights  *rights
	reads   flight.Calls
	queue   *fairqueue.Queue

	mu    sync.Mutex
	large map[string]*sharedIndex // by record; in use and too large for the cache
}

// sharedIndex is an index that requests use. One of them is charged for it.
type sharedIndex struct {
	index   *layerindex.Index
	users   []*indexUser // in the order in which they came
	charged *indexUser
	release func()
}

// indexUser is a request that uses an index.
type indexUser struct{ budget *budget.Budget }

const (
	// indexesCost bounds the indexes in memory, in bytes. One of 40,000 files has less than
	// a sixteenth of it, the most that is kept; decoding a larger one takes milliseconds.
	indexesCost   = 16 << 20
	cachedIndexes = 4096

	// indexTimeout bounds reading one layer, whose largest are gigabytes.
	indexTimeout = 30 * time.Minute
	// readsAtOnce is how many layers of one client are read at a time.
	readsAtOnce = 4
)

func newIndexes(records Records) *indexes {
	return &indexes{
		records: records,
		small:   sizedlru.New[string, *layerindex.Index](indexesCost, cachedIndexes, 0),
		rights:  newRights(),
		queue:   fairqueue.New(fairqueue.Options{Slots: 256, PerClient: readsAtOnce, Waiting: 4096, AllWaiting: 1 << 14}),
		large:   map[string]*sharedIndex{},
	}
}

// Kinds of indexes. Those of one kind are never taken for those of another.
const (
	ofLayer = "layer" // of a base image, read from the whole layer
	ofTable = "table" // of a base image, read from a table of contents
	ofAdded = "added" // of an added layer, from the archives of this server
)

// indexRecord is the name of the record of an index; records are shared, in memory and in the
// store, by this name alone. A registry's base URL is part of it, because a registry may vouch
// only for what it sent itself: its owner knows digests of layers elsewhere and can answer HEAD
// for any of them. Added layers have no registry. The index of a table of contents is recorded
// for the layer and the digest that a manifest claims for the table: it is not the layer's
// own, because any client may write a manifest.
func indexRecord(kind, registry string, digests ...digest.Digest) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q %q %q", kind, registry, digests))
	return "layerindex/" + hex.EncodeToString(sum[:])
}

// recordsOf returns the records that may have the index of a layer of the registry, the best
// one first.
func recordsOf(registry string, d ocispec.Descriptor) []string {
	names := []string{indexRecord(ofLayer, registry, d.Digest)}
	if toc, ok := layerindex.TOCOf(d); ok {
		names = append(names, indexRecord(ofTable, registry, d.Digest, toc.Digest))
	}
	return names
}

// inMemory returns an index that is in memory, and counts the caller as a user of it until
// release.
func (x *indexes) inMemory(ctx context.Context, names ...string) (index *layerindex.Index, release func(), ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, name := range names {
		if index, ok := x.small.Get(name); ok {
			return index, func() {}, true
		}
		if shared := x.large[name]; shared != nil {
			return shared.index, x.join(ctx, name, shared), true
		}
	}
	return nil, nil, false
}

// use keeps an index in memory while requests use it, or longer if it is small. A large one is
// charged to the first of them, and when that one releases it, to one that still uses it. An error is *budget.Exceeded.
func (x *indexes) use(ctx context.Context, name string, index *layerindex.Index) (shared *layerindex.Index, leave func(), err error) {
	if x.small.Add(name, index, index.Bytes()+int64(len(name))) {
		return index, func() {}, nil
	}
	if index, release, ok := x.inMemory(ctx, name); ok {
		return index, release, nil
	}
	done, err := budget.From(ctx).Hold(budget.Memory, index.Bytes())
	if err != nil {
		return nil, nil, err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if other := x.large[name]; other != nil { // it came meanwhile
		done()
		return other.index, x.join(ctx, name, other), nil
	}
	s := &sharedIndex{index: index, release: done}
	x.large[name] = s
	leave = x.join(ctx, name, s)
	s.charged = s.users[0]
	return index, leave, nil
}

// join adds a user, and returns the function that ends the use. The caller has locked the mutex.
func (x *indexes) join(ctx context.Context, name string, s *sharedIndex) (leave func()) {
	u := &indexUser{budget.From(ctx)}
	s.users = append(s.users, u)
	return sync.OnceFunc(func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		s.users = slices.DeleteFunc(s.users, func(other *indexUser) bool { return other == u })
		switch {
		case len(s.users) == 0:
			delete(x.large, name)
			s.release()
		case !slices.Contains(s.users, s.charged):
			s.pass()
		}
	})
}

// pass charges a user that stays in place of the one that leaves. While no user has room for
// it, the charge stays where it is: memory that is used is always charged to a client.
func (s *sharedIndex) pass() {
	for _, u := range s.users {
		release, err := u.budget.Hold(budget.Memory, s.index.Bytes())
		if err == nil {
			s.release()
			s.charged, s.release = u, release
			return
		}
	}
}

// found is an index and its record.
type found struct {
	name  string
	index *layerindex.Index
}

// recorded returns the index of the first of the records that there is. A damaged record is
// as good as none, and is written anew. An error is *budget.Exceeded.
func (x *indexes) recorded(ctx context.Context, names ...string) (f found, ok bool, err error) {
	for _, name := range names {
		data, err := x.records.Record(ctx, name)
		if err != nil {
			continue // the layer can be read
		}
		index, err := decode(ctx, data)
		if err == nil {
			return found{name, index}, true, nil
		}
		if _, refused := errors.AsType[*budget.Exceeded](err); refused {
			return found{}, false, err
		}
		slog.WarnContext(ctx, "record of a layer's index is damaged, reading the layer again", "record", name)
	}
	return found{}, false, nil
}

// decode returns the index of a record. An error is *budget.Exceeded, or of damage.
func decode(ctx context.Context, record []byte) (*layerindex.Index, error) {
	n, err := layerindex.DecodedBytes(record)
	if err != nil {
		return nil, err
	}
	// The record and the index are beside each other for a moment.
	release, err := budget.From(ctx).Hold(budget.Memory, n+int64(len(record)))
	if err != nil {
		return nil, err
	}
	defer release()
	return layerindex.Decode(record)
}

// keep records an index. Without the record, the layer is read again.
func (x *indexes) keep(ctx context.Context, f found) {
	err := func() error {
		// The index, its copy and the record are beside each other for a moment.
		release, err := budget.From(ctx).Hold(budget.Memory, 3*f.index.Bytes())
		if err != nil {
			return err
		}
		defer release()
		data := f.index.Encode()
		// A record of megabytes is as much as hundreds of ordinary ones.
		if err := budget.From(ctx).Spend(budget.Files, int64(len(data))>>16); err != nil {
			return err
		}
		return x.records.PutRecord(ctx, f.name, data)
	}()
	if err != nil && ctx.Err() == nil {
		slog.WarnContext(ctx, "cannot record the index of a layer, reading it again next time", "record", f.name, "err", err)
	}
}

// enter waits until one more layer of the client may be read. An error is *budget.Exceeded or
// the context's.
func (x *indexes) enter(ctx context.Context) (leave func(), err error) {
	leave, err = x.queue.EnterFor(ctx, "", func(joined func(string)) func() { return budget.Watch(ctx, joined) }, "")
	if errors.Is(err, fairqueue.ErrFull) || errors.Is(err, fairqueue.ErrAllFull) {
		return nil, &budget.Exceeded{Kind: budget.Fetches, Scope: budget.OfClient, Limit: readsAtOnce, RetryAfter: 5 * time.Second}
	}
	return leave, err
}

// wanted is an index that a caller wants.
type wanted struct {
	// key is what concurrent callers of one client share.
	key string
	// records may have it, the best one first.
	records []string
	// may tells whether the caller has the right to an index that is in memory or
	// recorded.
	may func(context.Context) error
	// read reads the index from the layer, which proves the right. keep is false if reading
	// again costs less than a record.
	read func(context.Context) (f found, keep bool, err error)
}

// provide returns an index from memory, from a record or read, and has it in memory until
// release. Errors are those of may and read, and *budget.Exceeded.
func (x *indexes) provide(ctx context.Context, w wanted) (index *layerindex.Index, release func(), err error) {
	if index, release, ok := x.inMemory(ctx, w.records...); ok {
		if err := w.may(ctx); err != nil {
			release()
			return nil, nil, err
		}
		return index, release, nil
	}
	// Other clients have flights of their own, because reading is charged to the client
	// that started it.
	key := fmt.Sprintf("%q %s", budget.Client(ctx), w.key)
	caller := ctx
	f, err := flight.Do(ctx, &x.reads, key, indexTimeout, func(ctx context.Context) (found, error) {
		f, err := x.load(ctx, w)
		if err != nil && caller.Err() != nil {
			err = abandoned{err}
		}
		return f, err
	})
	if err != nil {
		return nil, nil, err
	}
	return x.use(ctx, f.name, f.index)
}

// load returns an index from a record, or reads it.
func (x *indexes) load(ctx context.Context, w wanted) (found, error) {
	if f, ok, err := x.recorded(ctx, w.records...); err != nil {
		return found{}, err
	} else if ok {
		return f, w.may(ctx)
	}
	leave, err := x.enter(ctx)
	if err != nil {
		return found{}, err
	}
	defer leave()
	f, keep, err := w.read(ctx)
	if err == nil && keep {
		x.keep(ctx, f)
	}
	return f, err
}

// abandoned is the error of a flight whose first caller has left and may have taken the
// archives with it. The other callers try for themselves.
type abandoned struct{ error }

func (a abandoned) Unwrap() error { return a.error }

// Private makes the other callers start another flight.
func (a abandoned) Private() bool { return true }

// refusal turns what is wrong with a layer into an error for the user who named the image.
// Other errors name the layer themselves.
func refusal(layer string, err error) error {
	if wrong, ok := errors.AsType[*layerindex.Error](err); ok {
		return augment.Errorf("%s %v", layer, wrong)
	}
	return err
}
