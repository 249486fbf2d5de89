package registry

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/upstream"
)

// TestNextPageIsText: what a page links to is kept as text of a bounded size, and a list
// that goes on beyond that is refused instead of being cut off in silence.
func TestNextPageIsText(t *testing.T) {
	net := newNetwork(t)
	for name, test := range map[string]struct {
		query string
		want  int
	}{
		"10,000 parameters":         {strings.Repeat("abc&", 10_000), 403},
		"one long value":            {"last=" + strings.Repeat("x", upstream.MaxQuery), 403},
		"encoded it is longer":      {"last=" + strings.Repeat("{", upstream.MaxQuery-10), 403},
		"as long as it may be":      {"last=" + strings.Repeat("x", upstream.MaxQuery-5), 200},
		"a token of 2 KiB":          {"next_page=" + strings.Repeat("x", 2<<10), 200},
		"1,000 different names":     {manyNames(1000), 403},
		"300 names, as text 2 KiB":  {manyNames(300), 200},
		"nothing that can be asked": {"%zz", 200},
	} {
		answer := func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", "</x?"+test.query+`>; rel="next"`)
			tagsOf("a")(w, r)
		}
		net.AnswerAt("/v2/library/app/tags/list", answer)
		s := net.start()
		if a := s.do("GET", "tools/library/app/tags/list"); a.status != test.want {
			t.Errorf("%s: status %d, want %d: %.200s", name, a.status, test.want, a.body)
		}
		if cost := s.server.named.lists.known.Cost(); cost > 0 != (test.want == 200) || cost > failureCost+upstream.MaxQuery+500 {
			t.Errorf("%s: a list is kept for %d bytes", name, cost)
		}
	}
}

func manyNames(n int) string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("n%04d", i))
	}
	return strings.Join(names, "&")
}

// chargedWriter notes what is held while an answer is written.
type chargedWriter struct {
	*httptest.ResponseRecorder
	ledger *budget.Ledger
	least  int64
}

func (w *chargedWriter) Write(p []byte) (int, error) {
	w.least = min(w.least, w.ledger.Held(budget.Memory))
	return w.ResponseRecorder.Write(p)
}

// TestListsAreCharged: each client that reads a list holds it until it has read it, also
// those that share one, and the work of making it is charged.
func TestListsAreCharged(t *testing.T) {
	net := newNetwork(t)
	fill := strings.Repeat("a", 600<<10) // larger than what is kept
	tags := make([]string, 20_000)
	for i := range tags {
		tags[i] = fmt.Sprintf("v1.2.%07d-alpine-slim", i)
	}
	net.AnswerAt("/v2/library/app/tags/list", tagsOf(tags...))
	subject := net.PushIndex(t, "library/app", "1", "one", "amd64").Index.Digest()
	entry := fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":%q,"size":3,"annotations":{"<a>":%q}}`, subject, fill)
	net.AnswerAt("/v2/library/app/referrers/"+subject.String(), func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, `{"schemaVersion":2,"manifests":[%s, %s]}`, entry, entry)
	})
	s := net.start()
	l := s.server.named.lists
	q, err := s.server.named.paths.parse(route{token: "tools", name: "library/app"}, "")
	if err != nil {
		t.Fatal(err)
	}
	for name, serve := range map[string]func(http.ResponseWriter, *http.Request) error{
		"tags": func(w http.ResponseWriter, r *http.Request) error {
			return l.serveTags(w, r, q, route{token: "tools", name: "library/app"})
		},
		"referrers": func(w http.ResponseWriter, r *http.Request) error { return l.serveReferrers(w, r, q, subject) },
	} {
		ledger := budget.NewLedger(budget.Limits{budget.Memory: {All: 64 << 20, Client: 16 << 20}})
		for range 2 {
			w := &chargedWriter{httptest.NewRecorder(), ledger, 1 << 60}
			r := httptest.NewRequest("GET", "/v2/wt/tools/library/app/x", nil)
			if err := serve(w, r.WithContext(budget.With(t.Context(), ledger.Open("a")))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if size := int64(w.Body.Len()); size < 500<<10 || w.least < size-1<<10 {
				t.Errorf("%s: %d bytes are held while %d are sent", name, w.least, size)
			}
			if !json.Valid(w.Body.Bytes()) || w.Header().Get("Content-Length") != fmt.Sprint(w.Body.Len()) {
				t.Errorf("%s: Content-Length %s, %.100s", name, w.Header().Get("Content-Length"), w.Body)
			}
		}
		poor := budget.NewLedger(budget.Limits{budget.Memory: {Client: 400 << 10}})
		r := httptest.NewRequest("GET", "/v2/wt/tools/library/app/x", nil)
		full := &budget.Exceeded{}
		if err := serve(httptest.NewRecorder(), r.WithContext(budget.With(t.Context(), poor.Open("b")))); !errors.As(err, &full) {
			t.Errorf("%s, beyond the share: %v", name, err)
		}
	}
	if a := s.do("HEAD", "tools/library/app/tags/list"); a.status != 200 || len(a.body) != 0 || a.header.Get("Content-Length") == "" {
		t.Errorf("HEAD: status %d, %q", a.status, a.header)
	}
	if a := s.do("GET", "tools/library/app/referrers/"+subject.String()); !bytes.Contains(a.body, []byte(`"<a>"`)) || a.header.Get("Content-Type") != ocispec.MediaTypeImageIndex {
		t.Errorf("the bytes of an entry are changed: %.300s", a.body)
	}
}
