package auth

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// vector was computed with another implementation from the key 00 01 ... 1f and
// the JSON of testGrant. If it changes, every token in use becomes invalid.
const (
	vector     = Token("d43whmf2da52zknzp5s2atvjr2ci2c7lckweyba")
	vectorJSON = `{"image":"docker.io/library/ubuntu","tag":"24.04",` +
		`"base":"sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",` +
		`"root":{"mediaType":"application/vnd.oci.image.index.v1+json",` +
		`"digest":"sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","size":1234},` +
		`"recipe":{"layers":[{"digest":"sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc","size":42,` +
		`"diffID":"sha256:dddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddddd"}],"env":["A=\u003c1\u003e"]},` +
		`"platforms":["linux/amd64"],` +
		`"injected":["sha256:cccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccccc"]}`
)

func TestTokenLayout(t *testing.T) {
	records := newMemory()
	token, expires, err := newTokens(t, records, noon()).Mint(t.Context(), testGrant(), 8*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if token != vector {
		t.Errorf("token %s, want %s", token, vector)
	}
	want := Claims{
		Version: 1,
		KeyID:   15,
		Expires: time.Date(2026, 11, 25, 20, 0, 0, 0, time.UTC),
		Grant:   "ba183baca9b97f65a04ea98e",
	}
	if !expires.Equal(want.Expires) {
		t.Errorf("expires %s, want %s", expires, want.Expires)
	}
	if got, err := Decode(token); err != nil || got != want {
		t.Errorf("claims %+v, %v, want %+v", got, err, want)
	}
	if names := records.names("grants"); len(names) != 1 || names[0] != "until/2026-11-26/grants/"+want.Grant {
		t.Errorf("records %v, want the grant's", names)
	}
	if got := token.Short(); got != "a18c2bd4" {
		t.Errorf("short form %s", got)
	}
}

func TestGrantJSON(t *testing.T) {
	got, err := testGrant().encode()
	if err != nil || string(got) != vectorJSON {
		t.Errorf("JSON %s, %v\nwant %s", got, err, vectorJSON)
	}

	var null, empty Grant
	empty.Platforms, empty.Objects, empty.Injected = []string{}, []digest.Digest{}, []digest.Digest{}
	if err := json.Unmarshal([]byte(`{"layers":[],"env":[],"entrypoint":[],"cmd":[]}`), &empty.Recipe); err != nil {
		t.Fatal(err)
	}
	a, _ := null.encode()
	b, _ := empty.encode()
	if !bytes.Equal(a, b) {
		t.Errorf("nil and empty slices differ:\n%s\n%s", a, b)
	}

	large := testGrant()
	large.Recipe.Env = []string{"A=" + strings.Repeat("x", maxGrant)}
	_, _, err = newTokens(t, newMemory(), noon()).Mint(t.Context(), large, 0)
	if e := new(Error); !errors.As(err, &e) || !strings.Contains(err.Error(), "262144") {
		t.Errorf("large grant: %v", err)
	}
}

// forgeries returns texts made from the vector that are not tokens of this server.
func forgeries(t testing.TB) map[string]Token {
	f := map[string]Token{
		"empty":           "",
		"recipe name":     "tools",
		"truncated":       vector[:38],
		"without MAC":     vector[:26],
		"extended":        vector + "a",
		"extended by 8":   vector + "aaaaaaaa",
		"upper case":      Token(strings.ToUpper(string(vector))),
		"one upper case":  "D" + vector[1:],
		"padded":          vector + "=",
		"line break":      vector + "\n",
		"break inside":    vector[:20] + "\n" + vector[20:],
		"digit 1":         vector[:10] + "1" + vector[11:],
		"spare bits":      vector[:38] + "b",
		"not ASCII":       vector[:37] + "é",
		"long":            Token(strings.Repeat("a", 1<<16)),
		"39 of something": Token(strings.Repeat("-", 39)),
	}
	raw, err := parse(vector)
	if err != nil {
		t.Fatal(err)
	}
	for bit := range len(raw) * 8 {
		flipped := raw
		flipped[bit/8] ^= 1 << (bit % 8)
		f["bit "+string(flipped.encode())] = flipped.encode()
	}
	return f
}

func TestForgedTokensTouchNoRecord(t *testing.T) {
	records := newMemory()
	tokens := newTokens(t, records, noon())
	if token := mint(t, tokens, 8*time.Hour); token != vector {
		t.Fatal("not the token the forgeries are made from")
	}
	records.calls()
	for name, token := range forgeries(t) {
		g, err := tokens.Open(t.Context(), token)
		refused(t, err, ErrUnknownToken, token)
		if g != nil {
			t.Errorf("%s: opened", name)
		}
		refused(t, tokens.Revoke(t.Context(), token), ErrUnknownToken, token)
	}
	if reads, writes := records.calls(); len(reads)+len(writes) != 0 {
		t.Errorf("forged tokens read %v and wrote %v", reads, writes)
	}
	if _, err := tokens.Open(t.Context(), vector); err != nil {
		t.Errorf("the genuine token: %v", err)
	}
}

func TestTokenLogValue(t *testing.T) {
	var out bytes.Buffer
	slog.New(slog.NewTextHandler(&out, nil)).Info("pull", "token", vector)
	if s := out.String(); strings.Contains(s, string(vector)) || !strings.Contains(s, "token=a18c2bd4") {
		t.Errorf("logged %s", s)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(string(vector))
	f.Add("")
	f.Add("ca" + strings.Repeat("a", 37))
	f.Add(string(vector[:38]) + "b")
	f.Add(string(vector) + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		claims, err := Decode(Token(text))
		if err != nil {
			refused(t, err, ErrUnknownToken, Token(text))
			return
		}
		raw, err := parse(Token(text))
		if err != nil || raw.encode() != Token(text) {
			t.Errorf("%q encodes to %q, %v", text, raw.encode(), err)
		}
		if len(text) != 39 || strings.Trim(text, "abcdefghijklmnopqrstuvwxyz234567") != "" {
			t.Errorf("%q is accepted", text)
		}
		if claims.Version != 1 || claims.Expires.Before(epoch) || len(claims.Grant) != 24 {
			t.Errorf("%q has claims %+v", text, claims)
		}
	})
}
