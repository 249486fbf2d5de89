package auth

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"github.com/waveproxy/waveproxy/internal/flight"
	"github.com/waveproxy/waveproxy/internal/pack"
	"github.com/waveproxy/waveproxy/internal/sizedlru"
)

// Records keeps small named values that all replicas see. Names are slash
// separated. What has a name that begins with a day, "until/2026-11-29/grants/0a1b", may
// be forgotten when the day has come. Safe for concurrent use; reads and
// writes end when ctx does.
type Records interface {
	// Record returns the value, or an error that is fs.ErrNotExist.
	Record(ctx context.Context, name string) ([]byte, error)
	// PutRecord stores the value durably and whole, in place of any earlier one.
	PutRecord(ctx context.Context, name string, data []byte) error
	// PutPack is PutRecord with blobs that live as long as the record.
	PutPack(ctx context.Context, name string, data []byte, blobs []pack.Part) error
}

// RecentRecords are Records of which a read takes long. Revocations are asked for again
// and again, and nearly always there is none.
type RecentRecords interface {
	// RecentRecord is Record, except that what was written in the last second may be
	// missed.
	RecentRecord(ctx context.Context, name string) ([]byte, error)
}

// TokensOptions are the parts of Tokens. Keys and Records are required.
type TokensOptions struct {
	// Keys verify tokens; the first one also signs. To rotate, put the new key
	// first and drop the old one when its last token has expired.
	Keys []Key
	// Records holds grants and revocations.
	Records Records
	// Older says that Records may have grants and revocations of versions that gave
	// them other names. They are read then, and such versions see new revocations.
	Older bool
	// TTL is the default lifetime of a token, and also the longest that a caller
	// may ask for. Zero means DefaultTTL.
	TTL time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// DefaultTTL lets a token outlive a working day and the night's runs after it.
const DefaultTTL = 36 * time.Hour

const (
	minTTL = time.Minute

	// A replica trusts an answer "not revoked" for revocationTTL, one read takes at
	// most recordTimeout, and RecentRecords may be a second old. So 5 seconds after
	// Revoke returned, no replica can still hold an older answer.
	revocationTTL = 2 * time.Second
	recordTimeout = 5 * time.Second

	// maxMoves bounds the search for an expiry whose token is not revoked.
	maxMoves = 64

	cachedGrants      = 1024
	grantsCost        = 16 << 20 // bytes of all grants in memory
	cachedRevocations = 4096
)

// Tokens mints, opens and revokes tokens. All instances with the same keys and
// the same Records know the same tokens. Safe for concurrent use.
type Tokens struct {
	keys    atomic.Pointer[[]Key]
	records Records
	older   bool
	ttl     time.Duration
	now     func() time.Time

	opening     flight.Calls                    // by token
	grants      *sizedlru.Cache[string, *entry] // by record
	revocations *lru.Cache[Token, revocation]
}

// revocation is the last answer of the records about a token. The LRU is plain and
// its entries carry their time, because lru/expirable keeps a goroutine for ever
// and has a clock of its own.
type revocation struct {
	revoked bool
	asked   time.Time // before the read began
}

// NewTokens returns Tokens, or an error that says which option is wrong.
func NewTokens(o TokensOptions) (*Tokens, error) {
	if o.Records == nil {
		return nil, errors.New("tokens need records")
	}
	if o.TTL == 0 {
		o.TTL = DefaultTTL
	}
	if o.TTL < minTTL {
		return nil, fmt.Errorf("token lifetime %s is shorter than %s", o.TTL, minTTL)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	t := &Tokens{records: o.Records, older: o.Older, ttl: o.TTL, now: o.Now}
	err := t.SetKeys(o.Keys)
	if err != nil {
		return nil, err
	}
	t.grants = sizedlru.New[string, *entry](grantsCost, cachedGrants, 0)
	if t.revocations, err = lru.New[Token, revocation](cachedRevocations); err != nil {
		return nil, err
	}
	return t, nil
}

// SetKeys replaces the keys: the first one signs, and all of them verify, from the next
// request on.
func (t *Tokens) SetKeys(keys []Key) error {
	if len(keys) == 0 || slices.ContainsFunc(keys, func(k Key) bool { return k.aead == nil }) {
		return errors.New("tokens need a key, and every key must be set")
	}
	keys = slices.Clone(keys)
	t.keys.Store(&keys)
	return nil
}

// Mint stores the grant and returns its token and the token's expiry. The same
// grant gets the same token for an eighth of ttl (at least a minute), so that
// equal requests get equal image names and hit the caches of nodes. Therefore a
// token lives for ttl and up to an eighth (at least a minute) longer. Mint never
// returns a revoked token: the same grant then gets a token that expires minutes
// later.
//
// A ttl of 0 means the default. A ttl under a minute or over the default is an
// *Error, and so is a grant that is too large; other errors come from the records.
func (t *Tokens) Mint(ctx context.Context, g Grant, ttl time.Duration) (Token, time.Time, error) {
	return t.MintWithin(ctx, g, ttl, 0, time.Time{})
}

// MintWithin is Mint for a caller whose tokens live for longest and no minute longer;
// 0 is no limit. A token that would be over it ends up to an eighth of ttl (at least
// a minute) early instead, and replaces a revoked one with one that expires earlier.
// It ends at last at the latest, if that is not zero.
func (t *Tokens) MintWithin(ctx context.Context, g Grant, ttl, longest time.Duration, last time.Time) (Token, time.Time, error) {
	first, step, err := t.expiry(ttl, longest)
	if err != nil {
		return "", time.Time{}, err
	}
	if end := int64(last.Sub(epoch) / time.Minute); !last.IsZero() && first >= end {
		first, step = end, -1
	}
	data, err := g.encode()
	if err != nil {
		return "", time.Time{}, err
	}
	key := (*t.keys.Load())[0]
	id := key.grantID(data)
	for move := range int64(maxMoves) {
		minutes := first + move*step
		end := epoch.Add(time.Duration(minutes) * time.Minute)
		if !end.After(t.now()) {
			break
		}
		token := key.sign(id, minutes)
		// Not from the cache: another replica may have revoked it a moment ago.
		revoked, err := t.revoked(ctx, t.records.Record, token, end)
		if err != nil {
			return "", time.Time{}, fmt.Errorf("mint token: %w", err)
		}
		if revoked {
			continue
		}
		if err := t.store(ctx, key, id, end, data, g); err != nil {
			return "", time.Time{}, fmt.Errorf("mint token: %w", err)
		}
		return token, end, nil
	}
	return "", time.Time{}, refuse("the last %d tokens for this image were all revoked: ask again later or for another lifetime", maxMoves)
}

// CheckTTL returns the *Error that Mint would return for this lifetime. Callers
// use it before work whose result would get no token.
func (t *Tokens) CheckTTL(ttl time.Duration) error {
	_, _, err := t.expiry(ttl, 0)
	return err
}

// expiry returns the end of the current window for ttl, in minutes since epoch, and
// in which direction later ones are tried. If that end is beyond longest, which 0
// is not, it is the end of an earlier window.
func (t *Tokens) expiry(ttl, longest time.Duration) (minutes, step int64, err error) {
	if ttl == 0 {
		ttl = t.ttl
	}
	if ttl < minTTL || ttl > t.ttl {
		return 0, 0, refuse("token lifetime %s: want at least %s and at most %s", ttl, minTTL, t.ttl)
	}
	window := max((ttl / 8).Truncate(time.Minute), time.Minute)
	now := t.now()
	end := now.Add(ttl).Sub(epoch)
	if now.Before(epoch) || end > (lastMinute-maxMoves)*time.Minute-window {
		return 0, 0, fmt.Errorf("mint token: a lifetime of %s from %s on is not within 2020 and 2051, the years a token can express", ttl, now.UTC().Format(time.RFC3339))
	}
	end = (end + window - 1) / window * window // up to the end of its window
	if last := now.Add(longest).Sub(epoch); longest > 0 && end > last {
		end = last / window * window
		if end <= now.Sub(epoch) { // of a lifetime of about a minute
			end = last
		}
	}
	if longest > 0 {
		return int64(end / time.Minute), -1, nil
	}
	return int64(end / time.Minute), 1, nil
}

// store writes the grant's record for the end of a token. If there is one that opens, it
// stays, but its blobs are stored again where they are damaged.
func (t *Tokens) store(ctx context.Context, key Key, id grantID, end time.Time, data []byte, g Grant) error {
	name := id.record(end)
	record, err := t.records.Record(ctx, name)
	if err == nil {
		_, err = key.unseal(id[:], record)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read grant: %w", err)
	}
	if err != nil {
		if record, err = key.seal(id[:], entry{Created: t.now().UTC().Truncate(time.Second), JSON: data, Asked: g.Asked}); err != nil {
			return err
		}
	}
	if err := t.records.PutPack(ctx, name, record, g.Parts); err != nil {
		return fmt.Errorf("store grant: %w", err)
	}
	return nil
}

// Revoke ends the token everywhere: every instance that shares the records
// refuses it at the latest 5 seconds later. It writes nothing for a token that
// does not verify (ErrUnknownToken) or has expired (ErrExpiredToken).
// Revoking twice is not an error.
func (t *Tokens) Revoke(ctx context.Context, token Token) error {
	_, raw, err := t.verify(token)
	if err != nil {
		return err
	}
	// The marker says from when on it can be deleted: the token's own expiry.
	expires := raw.expires().Format(time.RFC3339) + "\n"
	markers := []string{token.marker(raw.expires())}
	if t.older {
		markers = append(markers, token.olderMarker())
	}
	for _, marker := range markers {
		if err := t.records.PutRecord(ctx, marker, []byte(expires)); err != nil {
			return fmt.Errorf("revoke token %s: %w", token.Short(), err)
		}
	}
	t.revocations.Add(token, revocation{revoked: true})
	return nil
}

// readRecord is Record or RecentRecord.
type readRecord func(ctx context.Context, name string) ([]byte, error)

// revoked reads whether the token is revoked.
func (t *Tokens) revoked(ctx context.Context, read readRecord, token Token, end time.Time) (bool, error) {
	return t.marked(ctx, read, token.marker(end))
}

// recentRecord returns what reads records that may be a second old, if they can be.
func (t *Tokens) recentRecord() readRecord {
	if recent, ok := t.records.(RecentRecords); ok {
		return recent.RecentRecord
	}
	return t.records.Record
}

// marked reports whether a token was revoked, by the name of its revocation.
func (t *Tokens) marked(ctx context.Context, read readRecord, marker string) (bool, error) {
	markers := []string{marker}
	if i := strings.Index(marker, revokedPrefix); t.older && i > 0 {
		markers = append(markers, marker[i:])
	}
	for _, marker := range markers {
		switch _, err := read(ctx, marker); {
		case err == nil:
			return true, nil
		case !errors.Is(err, fs.ErrNotExist):
			return false, fmt.Errorf("read revocation: %w", err)
		}
	}
	return false, nil
}

// marker returns the record name of the revocation of a token that ends at the time. It
// does not give the token away.
func (t Token) marker(end time.Time) string { return until(end) + t.olderMarker() }

// olderMarker returns the name that older versions gave the record.
func (t Token) olderMarker() string { return revokedPrefix + t.hash() }

const revokedPrefix = "revoked/"

// IsRevocation reports whether a record of that name is the revocation of a token.
// A store must take it even if it takes no other record.
func IsRevocation(record string) bool {
	if rest, ok := strings.CutPrefix(record, "until/"); ok {
		_, record, _ = strings.Cut(rest, "/")
	}
	return strings.HasPrefix(record, revokedPrefix)
}
