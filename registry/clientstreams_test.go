package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
)

// TestStreamsOfClient: a client with as many streams as it may have waits for one of
// them to end, and is refused in the end.
func TestStreamsOfClient(t *testing.T) {
	for name, limits := range map[string]budget.Limits{
		"by number": {budget.Streams: {Client: 4, All: 100}},
		"by memory": {budget.Memory: {Client: 4*streamCost + 1, All: 100 * streamCost}},
		"in all":    {budget.Streams: {Client: 100, All: 4}},
	} {
		synctest.Test(t, func(t *testing.T) {
			ledger := budget.NewLedger(limits)
			ctx := func() context.Context { return budget.With(t.Context(), ledger.Open("cluster")) }
			var releases []func()
			for i := range 4 {
				client := "cluster"
				if name == "in all" {
					client = fmt.Sprint("another ", i)
				}
				release, err := holdStream(budget.With(t.Context(), ledger.Open(client)))
				if err != nil {
					t.Fatal(name, err)
				}
				releases = append(releases, release)
			}
			begun := time.Now()
			time.AfterFunc(5*time.Second, releases[0])
			release, err := holdStream(ctx())
			if took := time.Since(begun); err != nil || took < 5*time.Second || took > 6*time.Second {
				t.Errorf("%s: beside one that ends: %v after %s", name, err, took)
			}
			begun = time.Now()
			_, err = holdStream(ctx())
			if _, refused := errors.AsType[*budget.Exceeded](err); !refused || time.Since(begun) < streamWait {
				t.Errorf("%s: beside four that go on: %v after %s", name, err, time.Since(begun))
			}
			canceled, cancel := context.WithCancel(ctx())
			cancel()
			if _, err := holdStream(canceled); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: of a client that left: %v", name, err)
			}
			for _, release := range append(releases[1:], release) {
				release()
			}
			if ledger.Held(budget.Streams) != 0 || ledger.Held(budget.Memory) != 0 {
				t.Errorf("%s: charged after the end", name)
			}
		})
	}
}

// atFirstByte calls what it has when an answer begins.
type atFirstByte struct {
	*httptest.ResponseRecorder
	begun func()
}

func (a atFirstByte) WriteHeader(status int) {
	a.begun()
	a.ResponseRecorder.WriteHeader(status)
}

// TestBlobsAreStreams: a blob of any source counts while it is sent, and before the
// upstream is asked; answers without one do not.
func TestBlobsAreStreams(t *testing.T) {
	f := newFixture(t)
	ledger := budget.NewLedger(budget.Limits{budget.Streams: {Client: 4, All: 16}})
	handler := front.Front{Log: slog.New(slog.DiscardHandler), Ledger: ledger}.Handler(f.server)
	asked := int64(-1)
	f.answerBlob(func(w http.ResponseWriter, r *http.Request) {
		asked = ledger.Held(budget.Streams)
		f.serveBlob(w, r)
	})
	for _, test := range []struct {
		name, method, path string
		want, asked        int64
	}{
		{"an untouched layer", "GET", "blobs/" + digest.FromBytes(f.blob).String(), 1, 1},
		{"its head", "HEAD", "blobs/" + digest.FromBytes(f.blob).String(), 0, -1},
		{"an added layer", "GET", "blobs/" + f.layer.Digest.String(), 1, -1},
		{"a manifest", "GET", "manifests/" + f.grant.Root.Digest.String(), 0, -1},
	} {
		r := httptest.NewRequest(test.method, "/v2/wt/"+string(testToken)+"/library/base/"+test.path, nil)
		w := atFirstByte{httptest.NewRecorder(), nil}
		during := int64(0)
		w.begun = func() { during = ledger.Held(budget.Streams) }
		asked = -1
		handler.ServeHTTP(w, r)
		if w.Code != http.StatusOK || during != test.want || asked != test.asked || ledger.Held(budget.Streams) != 0 {
			t.Errorf("%s: status %d, %d streams while it is sent, %d when the upstream is asked, %d in the end", test.name, w.Code, during, asked, ledger.Held(budget.Streams))
		}
	}
	ledger = budget.NewLedger(budget.Limits{budget.Memory: {Request: streamCost, Client: 4 * streamCost, All: 16 * streamCost}})
	handler = front.Front{Log: slog.New(slog.DiscardHandler), Ledger: ledger}.Handler(f.server)
	f.upstream.TakeRequests()
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest("GET", "/v2/wt/"+string(testToken)+"/library/base/blobs/"+digest.FromBytes(f.blob).String(), nil))
	if n := len(f.upstream.TakeRequests()); n != 0 || w.Code != http.StatusRequestEntityTooLarge {
		t.Errorf("a stream without room has status %d after %d requests to the upstream", w.Code, n)
	}
}
