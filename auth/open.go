package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"github.com/waveproxy/waveproxy/internal/flight"
)

// Open returns the grant of the token. The grant is shared and must not be
// changed. Forged, malformed and expired tokens are refused without touching
// the records. A revocation is seen at the latest 5 seconds after it was made;
// when the records do not answer, Open fails.
//
// Errors: ErrUnknownToken, ErrExpiredToken, ErrRevokedToken, ErrDamagedGrant, those of
// the records, and ctx's.
func (t *Tokens) Open(ctx context.Context, token Token) (*Grant, error) {
	e, err := t.open(ctx, token)
	if err != nil {
		return nil, err
	}
	return e.grant, nil
}

func (t *Tokens) open(ctx context.Context, token Token) (*entry, error) {
	key, raw, err := t.verify(token)
	if err != nil {
		return nil, err
	}
	if e, err := t.cached(token, raw); e != nil || err != nil {
		return e, err
	}
	// The read serves every waiting pull, so it outlives the first one.
	e, err := flight.Do(ctx, &t.opening, string(token), recordTimeout, func(ctx context.Context) (*entry, error) {
		return t.load(ctx, key, token, raw)
	})
	if err == nil {
		return e, nil
	}
	if errors.Is(err, ErrUnknownToken) || errors.Is(err, ErrRevokedToken) {
		return nil, err
	}
	return nil, fmt.Errorf("open token %s: %w", token.Short(), err)
}

// verify returns the key that signed the token, and the token's bytes. It checks
// everything that needs no I/O.
func (t *Tokens) verify(token Token) (Key, rawToken, error) {
	raw, err := parse(token)
	if err != nil {
		return Key{}, rawToken{}, err
	}
	keys := *t.keys.Load()
	i := slices.IndexFunc(keys, func(k Key) bool { return k.verifies(raw) })
	if i < 0 {
		return Key{}, rawToken{}, fmt.Errorf("%w: no key of this server has signed it", ErrUnknownToken)
	}
	if end := raw.expires(); !t.now().Before(end) {
		return Key{}, rawToken{}, fmt.Errorf("%w at %s", ErrExpiredToken, end.Format(time.RFC3339))
	}
	return keys[i], raw, nil
}

// cached returns the answer that is in memory. Neither an entry nor an error means
// that none is.
func (t *Tokens) cached(token Token, raw rawToken) (*entry, error) {
	r, ok := t.revocations.Get(token)
	switch {
	case !ok:
		return nil, nil
	case r.revoked:
		return nil, ErrRevokedToken
	}
	if age := t.now().Sub(r.asked); age < 0 || age >= revocationTTL {
		return nil, nil
	}
	e, _ := t.grants.Get(raw.record())
	return e, nil
}

// load returns the answer of the records and remembers it.
func (t *Tokens) load(ctx context.Context, key Key, token Token, raw rawToken) (*entry, error) {
	// A flight that ended since the caller looked may have left the answer.
	if e, err := t.cached(token, raw); e != nil || err != nil {
		return e, err
	}
	asked := t.now()
	revoked, err := t.revoked(ctx, t.recentRecord(), token, raw.expires())
	if err != nil {
		return nil, err
	}
	if revoked {
		t.revocations.Add(token, revocation{revoked: true, asked: asked})
		return nil, ErrRevokedToken
	}
	e, err := t.stored(ctx, key, raw)
	if err != nil {
		return nil, err
	}
	for _, mark := range e.grant.Ancestors {
		if revoked, err = t.marked(ctx, t.recentRecord(), mark); err != nil {
			return nil, err
		}
		if revoked {
			break
		}
	}
	t.revocations.Add(token, revocation{revoked: revoked, asked: asked})
	if revoked {
		return nil, ErrRevokedToken
	}
	return e, nil
}

// stored returns the entry of a grant, from memory or from its record.
func (t *Tokens) stored(ctx context.Context, key Key, raw rawToken) (*entry, error) {
	names := []string{raw.record()}
	if t.older {
		names = append(names, raw.grant().olderRecord())
	}
	if e, ok := t.grants.Get(names[0]); ok {
		return e, nil
	}
	for _, name := range names {
		record, err := t.records.Record(ctx, name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read grant: %w", err)
		}
		id := raw.grant()
		e, err := key.unseal(id[:], record)
		if err != nil { // the next Mint of the same grant writes the record anew
			return nil, fmt.Errorf("%w: %w", ErrDamagedGrant, err)
		}
		e.grant.Record = name
		t.grants.Add(names[0], e, e.grant.Cost())
		return e, nil
	}
	return nil, fmt.Errorf("%w: its grant is no longer stored", ErrUnknownToken)
}

// Description is everything the server knows about a token.
type Description struct {
	Grant   *Grant    // shared; not to be changed
	Created time.Time // when the grant was first stored
	Expires time.Time // the first moment the token is refused
	// Mark is what grants of images that are made of this one keep as an ancestor. It
	// does not give the token away.
	Mark string
}

// Describe returns the grant and the times of a token. Its errors are Open's.
func (t *Tokens) Describe(ctx context.Context, token Token) (Description, error) {
	e, err := t.open(ctx, token)
	if err != nil {
		return Description{}, err
	}
	raw, err := parse(token)
	if err != nil {
		return Description{}, err
	}
	return Description{Grant: e.grant, Created: e.Created, Expires: raw.expires(), Mark: token.marker(raw.expires())}, nil
}
