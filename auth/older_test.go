package auth

import (
	"strings"
	"testing"
	"time"
)

// asOlder gives the records the names of older versions.
func asOlder(m *memory) {
	for name, data := range m.values {
		delete(m.values, name)
		m.values[withoutDay(name)] = data
	}
}

func newOlderTokens(t *testing.T, r Records, c *clock) *Tokens {
	t.Helper()
	tokens, err := NewTokens(TokensOptions{Keys: []Key{testKey(t, 0)}, Records: r, Now: c.now, Older: true})
	if err != nil {
		t.Fatal(err)
	}
	return tokens
}

// Tokens of older versions open, if it is known that there may be some.
func TestOlderGrants(t *testing.T) {
	records := newMemory()
	token := mint(t, newTokens(t, records, noon()), 0)
	asOlder(records)
	refused(t, openError(t, newTokens(t, records, noon()), token), ErrUnknownToken, token)

	tokens := newOlderTokens(t, records, noon())
	grant, err := tokens.Open(t.Context(), token)
	if err != nil || !strings.HasPrefix(grant.Record, "grants/") {
		t.Fatalf("grant of record %q, %v", grant.Record, err)
	}
	// A new token has a record of its own, which lives as long as the token.
	mint(t, tokens, 0)
	if names := records.names("grants"); len(names) != 2 {
		t.Errorf("records %q, want the older one and a new one", names)
	}
	grant, err = newOlderTokens(t, records, noon()).Open(t.Context(), token)
	if err != nil || !strings.HasPrefix(grant.Record, "until/") {
		t.Errorf("grant of record %q, %v, want the new one's", grant.Record, err)
	}
}

// Versions that share the records see each other's revocations.
func TestOlderRevocations(t *testing.T) {
	records := newMemory()
	tokens := newOlderTokens(t, records, noon())
	first, second := mint(t, tokens, time.Hour), mint(t, tokens, 2*time.Hour)
	records.values[first.olderMarker()] = []byte("2026-11-26T00:00:00Z\n") // by an older version
	refused(t, openError(t, newOlderTokens(t, records, noon()), first), ErrRevokedToken, first)
	if mint(t, newOlderTokens(t, records, noon()), time.Hour) == first {
		t.Error("a token that an older version had revoked was minted again")
	}
	if err := tokens.Revoke(t.Context(), second); err != nil {
		t.Fatal(err)
	}
	if _, ok := records.values[second.olderMarker()]; !ok {
		t.Error("an older version does not see the revocation")
	}
}

// The records of a token live until it ends, whatever another token of the same grant does.
func TestRecordOfADay(t *testing.T) {
	records, c := newMemory(), noon()
	tokens := newTokens(t, records, c)
	short, long := mint(t, tokens, time.Hour), mint(t, tokens, 36*time.Hour)
	if _, err := tokens.Open(t.Context(), short); err != nil {
		t.Fatal(err)
	}
	for name := range records.values {
		if strings.HasPrefix(name, "until/2026-11-26/") {
			delete(records.values, name) // collected
		}
	}
	c.advance(20 * time.Hour)
	refused(t, openError(t, tokens, short), ErrExpiredToken, short)
	grant, err := tokens.Open(t.Context(), long)
	if err != nil || !strings.HasPrefix(grant.Record, "until/2026-11-28/") {
		t.Errorf("grant of record %q, %v", grant.Record, err)
	}
	for record, want := range map[string]bool{
		"revoked/1": true, "until/2026-11-28/revoked/0/1": true,
		"grants/revoked/1": false, "until/2026-11-28/grants/revoked": false, "until/revoked/1": false, "named/revoked/x": false,
	} {
		if IsRevocation(record) != want {
			t.Errorf("%s is a revocation: %t", record, !want)
		}
	}
}
