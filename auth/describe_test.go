package auth

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// TestDescribe: every server with the same records knows the times of a token, also
// after the same grant was minted again.
func TestDescribe(t *testing.T) {
	records, clock := newMemory(), noon()
	key := testKey(t, 1)
	token := mint(t, newTokens(t, records, clock, key), 0)
	created := clock.t
	clock.advance(time.Hour)
	mint(t, newTokens(t, records, clock, key), 0)

	other := newTokens(t, records, clock, key)
	got, err := other.Describe(t.Context(), token)
	if err != nil {
		t.Fatal(err)
	}
	claims, err := Decode(token)
	if err != nil {
		t.Fatal(err)
	}
	want := testGrant()
	want.Record = "until/2026-11-28/grants/" + claims.Grant
	if diff := cmp.Diff(Description{Grant: &want, Created: created, Expires: claims.Expires, Mark: "until/2026-11-28/revoked/" + token.hash()}, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if err := other.Revoke(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	_, err = other.Describe(t.Context(), token)
	refused(t, err, ErrRevokedToken, token)
}
