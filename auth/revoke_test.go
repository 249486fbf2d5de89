package auth

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestRevoke(t *testing.T) {
	records, c := newMemory(), noon()
	here, there := newTokens(t, records, c), newTokens(t, records, c)
	token := mint(t, here, 0)
	for _, tokens := range []*Tokens{here, there} { // both have it in memory
		if _, err := tokens.Open(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := here.Revoke(t.Context(), token); err != nil {
			t.Fatal(err)
		}
	}
	records.calls()
	refused(t, openError(t, here, token), ErrRevokedToken, token)
	if reads, _ := records.calls(); len(reads) != 0 {
		t.Errorf("the server that revoked knows, but read %v", reads)
	}

	c.advance(revocationTTL)
	refused(t, openError(t, there, token), ErrRevokedToken, token)
	refused(t, openError(t, newTokens(t, records, c), token), ErrRevokedToken, token)

	records.calls()
	c.advance(time.Hour)
	refused(t, openError(t, there, token), ErrRevokedToken, token)
	if reads, _ := records.calls(); len(reads) != 0 {
		t.Errorf("a revocation is final, but was read again: %v", reads)
	}

	names := records.names("revoked")
	if len(names) != 1 || !strings.HasPrefix(names[0], "until/2026-11-28/revoked/"+token.Short()) {
		t.Errorf("markers %v", names)
	}
	for name, data := range records.values {
		if strings.Contains(name+string(data), string(token)) {
			t.Errorf("record %s shows the token", name)
		}
	}
}

// TestUnreadableRevocation: a token whose grant is in memory is not good when its
// revocation cannot be read. It is good again when the records answer.
func TestUnreadableRevocation(t *testing.T) {
	records, c := newMemory(), noon()
	tokens := newTokens(t, records, c)
	token := mint(t, tokens, 0)
	if _, err := tokens.Open(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	c.advance(revocationTTL)
	records.fail = errors.New("the disk is gone")
	for range 2 {
		if got, err := tokens.Open(t.Context(), token); !errors.Is(err, records.fail) || got != nil {
			t.Errorf("without an answer about its revocation the token is %v, %v", got, err)
		}
	}
	records.fail = nil
	if _, err := tokens.Open(t.Context(), token); err != nil {
		t.Errorf("when the records answer again: %v", err)
	}
}

func TestRevokeWithoutItsGrant(t *testing.T) {
	records, c := newMemory(), noon()
	token := mint(t, newTokens(t, records, c), 0)
	clear(records.values)
	tokens := newTokens(t, records, c)
	records.calls()
	if err := tokens.Revoke(t.Context(), token); err != nil {
		t.Fatal(err)
	}
	if reads, _ := records.calls(); len(reads) != 0 {
		t.Errorf("revoking read %v", reads)
	}
	refused(t, openError(t, tokens, token), ErrRevokedToken, token)
}

func TestMintAfterRevoke(t *testing.T) {
	records, c := newMemory(), noon()
	here, there := newTokens(t, records, c), newTokens(t, records, c)
	seen := map[Token]bool{}
	for i := range maxMoves {
		token, expires, err := here.Mint(t.Context(), testGrant(), 8*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if seen[token] {
			t.Fatal("a revoked token was minted again")
		}
		seen[token] = true
		if want := time.Date(2026, 11, 25, 20, i, 0, 0, time.UTC); !expires.Equal(want) {
			t.Errorf("after %d revocations it expires at %s, want %s", i, expires, want)
		}
		if _, err := here.Open(t.Context(), token); err != nil {
			t.Error(err)
		}
		if err := there.Revoke(t.Context(), token); err != nil { // here does not know yet
			t.Fatal(err)
		}
	}
	_, _, err := here.Mint(t.Context(), testGrant(), 8*time.Hour)
	if e := new(Error); !errors.As(err, &e) {
		t.Errorf("after %d revocations: %v", maxMoves, err)
	}
}

func TestOpenReadsOnce(t *testing.T) {
	records, c := newMemory(), noon()
	token := mint(t, newTokens(t, records, c), 0)
	tokens := newTokens(t, records, c)
	records.calls()
	steps := []struct {
		after time.Duration
		reads []string
	}{
		{0, []string{"revoked", "grants"}},
		{0, nil},
		{revocationTTL - 1, nil},
		{1, []string{"revoked"}},
		{0, nil},
		{-time.Hour, []string{"revoked"}}, // the clock was set back
	}
	for i, s := range steps {
		c.advance(s.after)
		if _, err := tokens.Open(t.Context(), token); err != nil {
			t.Fatal(err)
		}
		if reads, _ := records.calls(); !cmp.Equal(reads, s.reads) {
			t.Errorf("step %d read %v, want %v", i, reads, s.reads)
		}
	}
}

func TestOpenSharesOneRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records, c := newMemory(), noon()
		token := mint(t, newTokens(t, records, c), 0)
		tokens := newTokens(t, records, c)
		records.calls()
		records.gate = make(chan struct{})

		first, giveUp := context.WithCancel(t.Context())
		var callers sync.WaitGroup
		callers.Go(func() {
			_, err := tokens.Open(first, token)
			refused(t, err, context.Canceled, token)
		})
		synctest.Wait()
		grants := make([]*Grant, 50)
		for i := range grants {
			callers.Go(func() {
				var err error
				if grants[i], err = tokens.Open(t.Context(), token); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		giveUp() // the others must not notice
		synctest.Wait()
		close(records.gate)
		callers.Wait()
		if reads, _ := records.calls(); !cmp.Equal(reads, []string{"revoked", "grants"}) {
			t.Errorf("51 callers read %v", reads)
		}
		for _, g := range grants {
			if g == nil || g != grants[0] {
				t.Fatal("callers got different grants")
			}
		}
	})
}

func TestOpenEndsWhenRecordsHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		records, c := newMemory(), noon()
		tokens := newTokens(t, records, c)
		token := mint(t, tokens, 0)
		records.gate = make(chan struct{}) // never opens
		start := time.Now()
		refused(t, openError(t, tokens, token), context.DeadlineExceeded, token)
		if took := time.Since(start); took != recordTimeout {
			t.Errorf("took %s of the fake clock", took)
		}
	})
}

func TestRecordsFail(t *testing.T) {
	records, c := newMemory(), noon()
	tokens := newTokens(t, records, c)
	token := mint(t, tokens, 0)
	records.fail = errors.New("disk on fire")

	_, _, mintErr := tokens.Mint(t.Context(), testGrant(), 0)
	for name, err := range map[string]error{
		"open":   openError(t, tokens, token),
		"revoke": tokens.Revoke(t.Context(), token),
		"mint":   mintErr,
	} {
		refused(t, err, records.fail, token)
		if errors.Is(err, ErrUnknownToken) || errors.Is(err, ErrRevokedToken) {
			t.Errorf("%s: %v blames the token", name, err)
		}
	}
	records.fail = nil
	if _, err := tokens.Open(t.Context(), token); err != nil {
		t.Errorf("a failure was remembered: %v", err)
	}
}
