package upstream

import (
	"bytes"
	"encoding/json"
	"net/http"
	"time"

	"github.com/waveproxy/waveproxy/internal/jsonlimit"
)

const (
	// defaultTokenLife is what the distribution token specification says for an
	// answer without expires_in ("Requesting a Token"). GHCR, Quay and ECR's
	// public registry send none.
	defaultTokenLife = 60 * time.Second
	// maxTokenLife bounds how long a token is used that a server says is good for
	// years, and how long the cache keeps anything.
	maxTokenLife = time.Hour
	// minTokenLife keeps a server whose tokens live a few seconds, or whose clocks
	// disagree, from being asked for one per request. A token that has expired
	// before is refused and replaced; by the specification none lives less than
	// 60 s.
	minTokenLife = 10 * time.Second
	// tokenLeeway is for a token's way, and for its request's wait in the queue.
	tokenLeeway = 10 * time.Second
	// maxTokenAnswer is what oras reads of one.
	maxTokenAnswer = 128 << 10
	// maxTokenElements bounds the elements of one. Real ones have ten.
	maxTokenElements = 1 << 10
)

// tokenLife is how long the token in a token server's answer may be used from
// now on. Answers that make no sense get the default; whether there is a token
// in it at all is for oras to say.
func tokenLife(h http.Header, answer []byte) time.Duration {
	var a struct {
		ExpiresIn json.Number `json:"expires_in"`
		IssuedAt  string      `json:"issued_at"`
	}
	if jsonlimit.Check(answer, maxTokenElements) == nil {
		_ = json.NewDecoder(bytes.NewReader(answer)).Decode(&a) // what could be read, if anything, is checked below
	}
	life := defaultTokenLife
	if seconds, err := a.ExpiresIn.Float64(); err == nil && seconds > 0 {
		life = time.Duration(min(seconds, 1e9) * float64(time.Second))
	}
	// A token may come from the server's own cache, and be older than the answer.
	// Both times are the server's: compared with each other they tell the age,
	// however wrong its clock is. An age beyond the token's life is a mistake,
	// because a server hands out no expired token.
	issued, err := time.Parse(time.RFC3339, a.IssuedAt)
	sent, dateErr := http.ParseTime(h.Get("Date"))
	if age := sent.Sub(issued); err == nil && dateErr == nil && age > 0 && age < life {
		life -= age
	}
	return min(max(life-tokenLeeway, minTokenLife), maxTokenLife)
}
