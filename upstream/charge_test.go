package upstream

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
)

func wantExceeded(t *testing.T, err error, kind budget.Kind) {
	t.Helper()
	if e, ok := errors.AsType[*budget.Exceeded](err); !ok || e.Kind != kind {
		t.Errorf("%v, want a refusal of %s", err, kind.Key())
	}
}

// TestCharges: a document is charged before it is asked for, its bytes while they
// arrive, and its descriptors when it is read.
func TestCharges(t *testing.T) {
	entry := `{"digest":"` + digest.FromString("x").String() + `","size":1}`
	text := `{"layers":[` + strings.Repeat(entry+",", 999) + entry + `]}`
	s := newServer(t, func(w http.ResponseWriter, _ *http.Request) {
		for part := range strings.SplitAfterSeq(text, ",") {
			_, _ = w.Write([]byte(part)) // the size is not known in advance
		}
	})
	c, _ := newClient(t, listed(s))
	c.hops.room = 0
	for _, test := range []struct {
		kind  budget.Kind
		limit int64
		asks  int
	}{{budget.Documents, 1, 1}, {budget.Memory, 64 << 10, 1}, {budget.Descriptors, 1500, 2}} {
		var limits budget.Limits
		limits[test.kind] = budget.Limit{Client: test.limit, All: 1 << 30}
		ledger := budget.NewLedger(limits)
		ctx := budget.With(t.Context(), ledger.Open("a"))
		var err error
		for range 2 {
			if _, err = c.Repository(image).Manifest(ctx, "1.0"); err != nil {
				break
			}
		}
		wantExceeded(t, err, test.kind)
		if n := len(s.TakeLines()); n != test.asks {
			t.Errorf("%s: %d requests, want %d", test.kind.Key(), n, test.asks)
		}
		if held := ledger.Held(budget.Memory); held != 0 {
			t.Errorf("%d bytes are held in the end", held)
		}
	}
	o, err := c.Repository(image).Manifest(t.Context(), "1.0")
	if err != nil || string(o.Data) != text || cap(o.Data) > len(text)+len(text)/4 {
		t.Errorf("%d bytes in room for %d, want %d: %v", len(o.Data), cap(o.Data), len(text), err)
	}
}

// TestLoginsAreCharged: what a registry answers to a request without a login, and what
// its token service answers, is charged while it arrives, and given back.
func TestLoginsAreCharged(t *testing.T) {
	long := strings.Repeat("x", 60<<10)
	for name, test := range map[string]struct {
		refusal, token string
		limit          int64 // bytes of memory
		full           bool
	}{
		"ordinary":              {"{}", `{"token":"t"}`, 32 << 10, false},
		"long refusal":          {long, `{"token":"t"}`, 32 << 10, true},
		"long token":            {"{}", `{"token":"` + long + `"}`, 32 << 10, true},
		"answer of no use":      {"{}", long + long + long, 64 << 10, true},
		"long ones in the room": {long, `{"token":"` + long + `"}`, 256 << 10, false},
	} {
		t.Run(name, func(t *testing.T) {
			var url string
			s := newServer(t, func(w http.ResponseWriter, r *http.Request) {
				switch {
				case r.URL.Path == "/token":
					_, _ = io.WriteString(w, test.token)
				case r.Header.Get("Authorization") == "":
					w.Header().Set("Www-Authenticate", `Bearer realm="`+url+`/token"`)
					w.WriteHeader(http.StatusUnauthorized)
					_, _ = io.WriteString(w, test.refusal)
				default:
					_, _ = io.WriteString(w, `{}`)
				}
			})
			url = s.URL
			c, _ := newClient(t, listed(s))
			c.hops.room = 0
			var limits budget.Limits
			limits[budget.Memory] = budget.Limit{Client: test.limit, All: 1 << 30}
			ledger := budget.NewLedger(limits)
			_, err := c.Repository(image).Manifest(budget.With(t.Context(), ledger.Open("a")), "1.0")
			if test.full {
				wantExceeded(t, err, budget.Memory)
			} else if _, full := errors.AsType[*budget.Exceeded](err); full {
				t.Error(err)
			}
			if held := ledger.Held(budget.Memory); held != 0 {
				t.Errorf("%d bytes are held in the end", held)
			}
		})
	}
}
