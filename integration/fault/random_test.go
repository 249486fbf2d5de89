package fault

import (
	"context"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// outcome is how the pull of one blob ends.
type outcome int

const (
	complete outcome = iota
	refused          // an error, or fewer bytes than announced
	corrupt          // as many bytes as announced, but wrong ones
)

// misfortune lists the faults of the requests for one layer in one pull, and the
// outcome that the pull must have.
type misfortune struct {
	weight int
	kinds  []upstream.Kind
	always bool // the last of kinds also meets all later requests
	want   outcome
}

// misfortunes contains few faults that take seconds; TestFaults has the others.
var misfortunes = []misfortune{
	{weight: 450, want: complete},
	{weight: 100, kinds: []upstream.Kind{upstream.Reset}},
	{weight: 80, kinds: []upstream.Kind{upstream.Closed}},
	{weight: 80, kinds: []upstream.Kind{upstream.Short}},
	{weight: 40, kinds: []upstream.Kind{upstream.Reset, upstream.Whole}},
	{weight: 40, kinds: []upstream.Kind{upstream.Short, upstream.OtherRange}},
	{weight: 30, kinds: []upstream.Kind{upstream.Closed, upstream.TooLong}},
	{weight: 20, kinds: []upstream.Kind{upstream.OtherRange}},
	{weight: 20, kinds: []upstream.Kind{upstream.Reset, upstream.Reset}},
	{weight: 10, kinds: []upstream.Kind{upstream.Closed, upstream.Whole, upstream.Short}},
	{weight: 10, kinds: []upstream.Kind{upstream.Closed, upstream.Reset, upstream.TooShort}},
	{weight: 8, kinds: []upstream.Kind{upstream.Stalled}},
	{weight: 8, kinds: []upstream.Kind{upstream.TooMany}},
	{weight: 10, kinds: []upstream.Kind{upstream.ServerError}},
	{weight: 5, kinds: []upstream.Kind{upstream.ServerError, upstream.ServerError, upstream.Reset}},
	{weight: 15, kinds: []upstream.Kind{upstream.Missing}, always: true, want: refused},
	{weight: 15, kinds: []upstream.Kind{upstream.Reset, upstream.Missing}, always: true, want: refused},
	{weight: 10, kinds: []upstream.Kind{upstream.Loop}, always: true, want: refused},
	{weight: 10, kinds: []upstream.Kind{upstream.TooLong}, always: true, want: refused},
	{weight: 10, kinds: []upstream.Kind{upstream.TooShort}, always: true, want: refused},
	{weight: 10, kinds: []upstream.Kind{upstream.Flipped}, always: true, want: corrupt},
}

// fate returns the misfortune of a layer. It is always the same for the same
// seed, repository and layer.
func fate(seed uint64, repository string, d digest.Digest) (misfortune, *rand.Rand) {
	h := fnv.New64a()
	_, _ = io.WriteString(h, repository+"@"+d.String()) // never fails
	random := rand.New(rand.NewPCG(seed, h.Sum64()))
	total := 0
	for _, m := range misfortunes {
		total += m.weight
	}
	at := random.IntN(total)
	for _, m := range misfortunes {
		if at -= m.weight; at < 0 {
			return m, random
		}
	}
	panic("unreachable")
}

// TestRandomFaults makes a thousand pulls under faults of every kind. Each layer
// of each pull has the outcome that its faults allow. No pull gets wrong bytes,
// unless the upstream sent them.
func TestRandomFaults(t *testing.T) {
	const pulls, workers, seed, largest = 1000, 16, 5, 96 << 10
	reg := upstream.NewFaulty(t)
	var names []string
	for n := range pulls {
		names = append(names, fmt.Sprintf("library/random%d", n))
	}
	layers := reg.AddImages(t, names, 100, largest, 4<<10, 32<<10)
	isLayer := map[digest.Digest]bool{}
	for _, d := range layers {
		isLayer[d] = true
	}
	reg.SetPlan(func(g upstream.Get) upstream.Fault {
		if !isLayer[g.Digest] { // without the config no image is made
			return upstream.Fault{}
		}
		m, random := fate(seed, g.Repository, g.Digest)
		n := g.Nth
		if m.always {
			n = min(n, len(m.kinds)-1)
		}
		if n >= len(m.kinds) {
			return upstream.Fault{}
		}
		return upstream.Fault{Kind: m.kinds[n], After: random.Int64N(4 << 10)}
	})
	settings := harness.RetryingSoon(harness.DockerHub(reg.URL))
	settings["WAVEPROXY_LIMITS_SUBMITS"], settings["WAVEPROXY_LIMITS_PULLS"] = "0", "0"
	p := harness.StartProxy(t, "", settings)
	transport := &http.Transport{MaxIdleConnsPerHost: workers}
	defer transport.CloseIdleConnections()
	c := fastPuller{p, &http.Client{Transport: transport}}

	var mu sync.Mutex
	var tally [3]int
	wantComplete, gotComplete := 0, 0
	work := make(chan string)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for name := range work {
				got, err := c.pull(t.Context(), name)
				if err != nil {
					t.Errorf("%s: %v", name, err)
					continue
				}
				allWanted, allGot := true, true
				mu.Lock()
				for _, d := range layers {
					m, _ := fate(seed, name, d)
					if got[d].outcome != m.want {
						t.Errorf("%s@%s with %v (always %t): outcome %d, want %d: %v", name, d, m.kinds, m.always, got[d].outcome, m.want, got[d].err)
					}
					tally[got[d].outcome]++
					allWanted, allGot = allWanted && m.want == complete, allGot && got[d].outcome == complete
				}
				if allWanted {
					wantComplete++
				}
				if allGot {
					gotComplete++
				}
				mu.Unlock()
			}
		})
	}
	for _, name := range names {
		work <- name
	}
	close(work)
	wg.Wait()
	t.Logf("%d of %d pulls are complete, %d must be; of the layers with faults of their own %d are complete, %d refused, %d as wrong as the upstream sent them; %d requests for blobs",
		gotComplete, pulls, wantComplete, tally[complete], tally[refused], tally[corrupt], len(reg.Gets()))
	if gotComplete < wantComplete || wantComplete < pulls/2 {
		t.Errorf("%d pulls are complete of %d that must be", gotComplete, wantComplete)
	}
}

// fastPuller makes the requests of an engine's pull and keeps no data.
type fastPuller struct {
	proxy  *harness.Proxy
	client *http.Client
}

type result struct {
	outcome outcome
	err     error
}

// pull returns the result for each blob of the image. A missing manifest is an
// error.
func (c fastPuller) pull(ctx context.Context, repository string) (map[digest.Digest]result, error) {
	body, err := json.Marshal(untouched(repository + ":1"))
	if err != nil {
		return nil, err
	}
	resp, err := c.proxy.Call(ctx, http.MethodPost, "/v1alpha2/container", string(body))
	if err != nil {
		return nil, err
	}
	a, err := resp.Answer()
	if err != nil {
		return nil, err
	}
	if a.Status != http.StatusOK {
		return nil, fmt.Errorf("submit: %s", resp.Body)
	}
	base := c.proxy.URL + "/v2/wt/" + a.ContainerToken + "/" + repository
	text, r := c.get(ctx, base+"/manifests/1", digest.Digest(a.TargetDigest), -1)
	if r.outcome != complete {
		return nil, fmt.Errorf("manifest: outcome %d: %w", r.outcome, r.err)
	}
	var manifest ocispec.Manifest
	if err := json.Unmarshal(text, &manifest); err != nil {
		return nil, err
	}
	results := map[digest.Digest]result{}
	for _, d := range append(manifest.Layers, manifest.Config) {
		_, results[d.Digest] = c.get(ctx, base+"/blobs/"+d.Digest.String(), d.Digest, d.Size)
	}
	if r := results[manifest.Config.Digest]; r.outcome != complete {
		return nil, fmt.Errorf("config: outcome %d: %w", r.outcome, r.err)
	}
	return results, nil
}

func (c fastPuller) get(ctx context.Context, url string, d digest.Digest, size int64) ([]byte, result) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, result{refused, err}
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return nil, result{refused, err}
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode != http.StatusOK:
		return nil, result{refused, fmt.Errorf("%s: %s", resp.Status, strings.TrimSpace(string(data)))}
	case err != nil:
		return nil, result{refused, err}
	case digest.FromBytes(data) != d || size >= 0 && int64(len(data)) != size:
		return nil, result{corrupt, fmt.Errorf("%d bytes of %d with the digest %s", len(data), size, digest.FromBytes(data))}
	}
	return data, result{complete, nil}
}
