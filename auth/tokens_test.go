package auth

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestNewTokens(t *testing.T) {
	key, records := testKey(t, 0), newMemory()
	tests := map[string]struct {
		options TokensOptions
		err     string
	}{
		"good":         {TokensOptions{Keys: []Key{key}, Records: records}, ""},
		"no keys":      {TokensOptions{Records: records}, "key"},
		"zero key":     {TokensOptions{Keys: []Key{key, {}}, Records: records}, "key"},
		"no records":   {TokensOptions{Keys: []Key{key}}, "records"},
		"short TTL":    {TokensOptions{Keys: []Key{key}, Records: records, TTL: time.Second}, "1s"},
		"negative TTL": {TokensOptions{Keys: []Key{key}, Records: records, TTL: -time.Hour}, "-1h"},
	}
	for name, tt := range tests {
		_, err := NewTokens(tt.options)
		if (tt.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%s: error %v, want %q", name, err, tt.err)
		}
	}
}

func TestMintAndOpen(t *testing.T) {
	tokens := newTokens(t, newMemory(), noon())
	got, err := tokens.Open(t.Context(), mint(t, tokens, 0))
	if err != nil {
		t.Fatal(err)
	}
	want := testGrant()
	want.Record = "until/2026-11-28/grants/ba183baca9b97f65a04ea98e"
	if diff := cmp.Diff(want, *got); diff != "" {
		t.Error(diff)
	}
}

func TestMintLifetime(t *testing.T) {
	tests := map[string]struct{ ttl, window time.Duration }{
		"default":         {0, 270 * time.Minute},
		"longest":         {36 * time.Hour, 270 * time.Minute},
		"an hour":         {time.Hour, 7 * time.Minute},
		"not round":       {61*time.Minute + 7*time.Second, 7 * time.Minute},
		"eight minutes":   {8 * time.Minute, time.Minute},
		"shortest window": {2 * time.Minute, time.Minute},
		"shortest":        {time.Minute, time.Minute},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			c := noon()
			tokens := newTokens(t, newMemory(), c)
			asked := tt.ttl
			if asked == 0 {
				asked = DefaultTTL
			}
			// Walk over three windows in odd steps: the token changes exactly where a
			// window ends, and never lives shorter or longer than promised.
			seen := map[Token]time.Time{}
			for start := c.t; c.t.Sub(start) < 3*tt.window; c.advance(tt.window/17 + time.Nanosecond) {
				token, expires, err := tokens.Mint(t.Context(), testGrant(), tt.ttl)
				if err != nil {
					t.Fatal(err)
				}
				if lives := expires.Sub(c.t); lives < asked || lives >= asked+tt.window {
					t.Fatalf("lives %s, want %s and less than %s more", lives, asked, tt.window)
				}
				if claims, err := Decode(token); err != nil || !claims.Expires.Equal(expires) {
					t.Fatalf("claims expire %s, %v, want %s", claims.Expires, err, expires)
				}
				if expires.Sub(epoch)%tt.window != 0 {
					t.Errorf("%s is not the end of a window", expires)
				}
				if end, ok := seen[token]; ok && !end.Equal(expires) {
					t.Errorf("one token expires at %s and %s", end, expires)
				}
				seen[token] = expires
			}
			if len(seen) != 3 && len(seen) != 4 {
				t.Errorf("%d tokens in three windows", len(seen))
			}
		})
	}
}

// TestMintWithin: a token never outlives the longest lifetime of its caller, and
// loses at most an eighth of it.
func TestMintWithin(t *testing.T) {
	for name, tt := range map[string]struct{ ttl, longest, window time.Duration }{
		"as long as allowed": {24 * time.Hour, 24 * time.Hour, 3 * time.Hour},
		"less than allowed":  {23 * time.Hour, 24 * time.Hour, 172 * time.Minute},
		"much less":          {time.Hour, 24 * time.Hour, 7 * time.Minute},
		"not round":          {90*time.Minute + 7*time.Second, 90*time.Minute + 7*time.Second, 11 * time.Minute},
		"shortest":           {time.Minute, time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			c := noon()
			tokens := newTokens(t, newMemory(), c)
			seen := map[Token]bool{}
			for start := c.t; c.t.Sub(start) < 3*tt.window; c.advance(tt.window/17 + time.Nanosecond) {
				token, expires, err := tokens.MintWithin(t.Context(), testGrant(), tt.ttl, tt.longest, time.Time{})
				if err != nil {
					t.Fatal(err)
				}
				lives := expires.Sub(c.t)
				if lives > tt.longest || lives < tt.ttl-tt.window || lives <= 0 {
					t.Fatalf("lives %s, want at most %s and at most %s less than %s", lives, tt.longest, tt.window, tt.ttl)
				}
				seen[token] = true
			}
			if len(seen) > 7 {
				t.Errorf("%d tokens in three windows", len(seen))
			}
			for range 10 {
				token, expires, err := tokens.MintWithin(t.Context(), testGrant(), tt.ttl, tt.longest, time.Time{})
				if e := new(Error); errors.As(err, &e) && tt.window == time.Minute {
					break // nothing is left of the minute
				}
				if err != nil || expires.Sub(c.t) > tt.longest {
					t.Fatalf("after a revocation it lives %s, %v", expires.Sub(c.t), err)
				}
				if err := tokens.Revoke(t.Context(), token); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func TestMintRefusesLifetime(t *testing.T) {
	records := newMemory()
	tokens := newTokens(t, records, noon())
	for _, ttl := range []time.Duration{time.Nanosecond, 59 * time.Second, -time.Hour, 36*time.Hour + 1} {
		_, _, err := tokens.Mint(t.Context(), testGrant(), ttl)
		e := new(Error)
		if !errors.As(err, &e) || !strings.Contains(err.Error(), ttl.String()) ||
			!strings.Contains(err.Error(), "1m0s") || !strings.Contains(err.Error(), "36h0m0s") {
			t.Errorf("%s: error %v", ttl, err)
		}
	}
	if reads, writes := records.calls(); len(reads)+len(writes) != 0 {
		t.Errorf("read %v, wrote %v", reads, writes)
	}
}

func TestMintOutsideTheCalendar(t *testing.T) {
	last := epoch.Add(lastMinute * time.Minute)
	tests := map[string]struct {
		now, ttl string
		ok       bool
	}{
		"1970":                    {"1970-01-01T00:00:00Z", "36h", false},
		"just before":             {"2019-12-31T23:59:59Z", "36h", false},
		"first moment":            {"2020-01-01T00:00:00Z", "36h", true},
		"last days":               {last.AddDate(0, 0, -3).Format(time.RFC3339), "36h", true},
		"too late":                {last.Add(-36 * time.Hour).Format(time.RFC3339), "36h", false},
		"far future":              {"2500-01-01T00:00:00Z", "36h", false},
		"longest duration":        {"2026-01-01T00:00:00Z", "2562047h47m16s", false},
		"thirty years from today": {"2026-01-01T00:00:00Z", "262800h", false},
	}
	for name, tt := range tests {
		now, _ := time.Parse(time.RFC3339, tt.now)
		ttl, _ := time.ParseDuration(tt.ttl)
		tokens, err := NewTokens(TokensOptions{
			Keys: []Key{testKey(t, 0)}, Records: newMemory(), TTL: ttl, Now: func() time.Time { return now },
		})
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := tokens.Mint(t.Context(), testGrant(), 0); (err == nil) != tt.ok {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestExpiryEdge(t *testing.T) {
	c, records := noon(), newMemory()
	tokens := newTokens(t, records, c)
	token, expires, err := tokens.Mint(t.Context(), testGrant(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	c.t = expires.Add(-time.Nanosecond)
	if _, err := tokens.Open(t.Context(), token); err != nil {
		t.Errorf("a moment before: %v", err)
	}
	records.calls()
	for _, c.t = range []time.Time{expires, expires.Add(1000 * time.Hour)} {
		for _, err := range []error{tokens.Revoke(t.Context(), token), openError(t, tokens, token)} {
			refused(t, err, ErrExpiredToken, token)
			if !strings.Contains(err.Error(), expires.Format(time.RFC3339)) {
				t.Errorf("error %q does not say when", err)
			}
		}
	}
	if reads, writes := records.calls(); len(reads)+len(writes) != 0 {
		t.Errorf("an expired token read %v and wrote %v", reads, writes)
	}
}

func openError(t *testing.T, tokens *Tokens, token Token) error {
	t.Helper()
	_, err := tokens.Open(t.Context(), token)
	if err == nil {
		t.Fatal("opened")
	}
	return err
}

func TestKeyRotation(t *testing.T) {
	records, c := newMemory(), noon()
	oldKey, newKey := testKey(t, 0), testKey(t, 1)
	before := mint(t, newTokens(t, records, c, oldKey), 0)

	rotated := newTokens(t, records, c, newKey, oldKey)
	after := mint(t, rotated, 0)
	if before == after {
		t.Fatal("the new key does not sign")
	}
	for _, token := range []Token{before, after} {
		if g, err := rotated.Open(t.Context(), token); err != nil || g.Image != testGrant().Image {
			t.Errorf("token %s after the rotation: %v", token.Short(), err)
		}
	}
	refused(t, openError(t, newTokens(t, records, c, newKey), before), ErrUnknownToken, before)
	refused(t, openError(t, newTokens(t, records, c, oldKey), after), ErrUnknownToken, after)
}

// Ids have 4 bits, so two keys of one server may have the same id.
func TestKeysWithOneID(t *testing.T) {
	first := testKey(t, 0)
	second := testKey(t, 1)
	for b := byte(2); second.id != first.id; b++ {
		second = testKey(t, b)
	}
	records, c := newMemory(), noon()
	token := mint(t, newTokens(t, records, c, second), 0)
	if _, err := newTokens(t, records, c, first, second).Open(t.Context(), token); err != nil {
		t.Error(err)
	}
}

func TestGrantIsEncrypted(t *testing.T) {
	records := newMemory()
	g := testGrant()
	g.Recipe.Env = []string{"PASSWORD=hunter2", "TOKEN=s3cret"}
	g.Identity = "alice"
	if _, _, err := newTokens(t, records, noon()).Mint(t.Context(), g, 0); err != nil {
		t.Fatal(err)
	}
	name := records.names("grants")[0]
	record := records.values[name]
	plain, err := g.encode()
	if err != nil {
		t.Fatal(err)
	}
	// 8 bytes, because shorter texts occur in a random text by chance.
	for i := range len(plain) - 7 {
		if word := plain[i : i+8]; bytes.Contains(record, word) {
			t.Errorf("the record shows %q", word)
		}
	}
	for _, word := range []string{"ubuntu", "hunter2", "alice", base64.StdEncoding.EncodeToString([]byte("hunter2"))} {
		if bytes.Contains(record, []byte(word)) || strings.Contains(name, word) {
			t.Errorf("the record shows %q", word)
		}
	}

	again := newMemory()
	if _, _, err := newTokens(t, again, noon()).Mint(t.Context(), g, 0); err != nil {
		t.Fatal(err)
	}
	if bytes.Equal(record, again.values[name]) {
		t.Error("two encryptions are equal: the nonce is not random")
	}
}

func TestMintKeepsAGoodRecord(t *testing.T) {
	records := newMemory()
	tokens := newTokens(t, records, noon())
	token := mint(t, tokens, 0)
	name := records.names("grants")[0]
	good := records.values[name]

	records.calls()
	mint(t, tokens, 0)
	if _, writes := records.calls(); len(writes) != 0 {
		t.Errorf("the second mint wrote %v", writes)
	}

	other := testGrant()
	other.Tag = "22.04"
	if _, _, err := tokens.Mint(t.Context(), other, 0); err != nil {
		t.Fatal(err)
	}
	moved := records.values[slices.DeleteFunc(records.names("grants"), func(n string) bool { return n == name })[0]]
	flipped := bytes.Clone(good)
	flipped[len(flipped)-1] ^= 1
	otherHeader := bytes.Clone(good)
	otherHeader[0] ^= 1
	for kind, damaged := range map[string][]byte{
		"empty": {}, "truncated": good[:20], "header only": good[:1],
		"flipped": flipped, "other header": otherHeader, "another grant's": moved,
	} {
		records.values[name] = damaged
		err := openError(t, newTokens(t, records, noon()), token)
		if errors.Is(err, ErrUnknownToken) || !strings.Contains(err.Error(), "grant record") {
			t.Errorf("%s: open says %v", kind, err)
		}
		if mint(t, tokens, 0) != token {
			t.Errorf("%s: another token", kind)
		}
		if _, err := newTokens(t, records, noon()).Open(t.Context(), token); err != nil {
			t.Errorf("%s: minting did not repair the record: %v", kind, err)
		}
	}

	delete(records.values, name)
	refused(t, openError(t, newTokens(t, records, noon()), token), ErrUnknownToken, token)
}
