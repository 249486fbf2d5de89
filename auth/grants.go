package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"sync/atomic"
	"time"
)

// Grants keeps grants that no token stands for: the grants of images pulled
// through a named recipe. A client that has learned a digest from one server may
// ask another server for it, or the same server after a restart. Grants are
// encrypted like the grants of tokens, each bound to the name of its record. Safe
// for concurrent use.
type Grants struct {
	keys    atomic.Pointer[[]Key]
	records Records
	now     func() time.Time
}

// NewGrants returns Grants in the records. The first key encrypts, and all of them
// decrypt, as in NewTokens. Without a key, or with a zero Key, it fails.
func NewGrants(keys []Key, records Records) (*Grants, error) {
	g := &Grants{records: records, now: time.Now}
	return g, g.SetKeys(keys)
}

// SetKeys replaces the keys, as Tokens.SetKeys does.
func (g *Grants) SetKeys(keys []Key) error {
	if len(keys) == 0 || slices.ContainsFunc(keys, func(k Key) bool { return k.aead == nil }) {
		return errors.New("grants need a key, and every key must be set")
	}
	keys = slices.Clone(keys)
	g.keys.Store(&keys)
	return nil
}

// Put stores the grant and its parts under a record's name, in place of any other. A grant
// that is too large is an *Error; other errors come from the records.
func (g *Grants) Put(ctx context.Context, name string, grant Grant) error {
	return g.PutIndexed(ctx, name, grant, nil)
}

// PutIndexed is Put with an index beside the grant, which Index returns without the
// grant. The index does not count toward the size of the grant.
func (g *Grants) PutIndexed(ctx context.Context, name string, grant Grant, index []byte) error {
	data, err := grant.encode()
	if err != nil {
		return err
	}
	record, err := (*g.keys.Load())[0].seal([]byte(name), entry{Created: g.now().UTC().Truncate(time.Second), JSON: data, Index: index})
	if err != nil {
		return err
	}
	if err := g.records.PutPack(ctx, name, record, grant.Parts); err != nil {
		return fmt.Errorf("store grant: %w", err)
	}
	return nil
}

// Get returns the grant under a name, and when it was stored, in whole seconds.
// A record that is missing, damaged or sealed with a key that is no longer
// configured is fs.ErrNotExist, because the grant can be made again.
func (g *Grants) Get(ctx context.Context, name string) (*Grant, time.Time, error) {
	e, err := g.entry(ctx, name)
	if err != nil {
		return nil, time.Time{}, err
	}
	return e.grant, e.Created, nil
}

// Index returns the index beside the grant under a name. Its errors are Get's.
func (g *Grants) Index(ctx context.Context, name string) ([]byte, error) {
	e, err := g.entry(ctx, name)
	if err != nil {
		return nil, err
	}
	return e.Index, nil
}

func (g *Grants) entry(ctx context.Context, name string) (*entry, error) {
	record, err := g.records.Record(ctx, name)
	if err != nil {
		return nil, fmt.Errorf("read grant: %w", err)
	}
	for _, key := range *g.keys.Load() {
		if e, err := key.unseal([]byte(name), record); err == nil {
			e.grant.Record = name
			return e, nil
		}
	}
	return nil, fmt.Errorf("read grant: no configured key opens it: %w", fs.ErrNotExist)
}
