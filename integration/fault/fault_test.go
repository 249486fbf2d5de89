package fault

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// untouched returns a submission that adds no layer: all of the image's layers
// are the upstream's.
func untouched(image string) harness.Request {
	return harness.Request{ContainerImage: image, ContainerConfig: &harness.Config{Env: []string{"ADDED=1"}}}
}

func blobURL(p *harness.Proxy, a harness.Answer, d digest.Digest) string {
	return p.URL + "/v2/wt/" + a.ContainerToken + "/" + faultyRepository(p, a) + "/blobs/" + d.String()
}

func faultyRepository(p *harness.Proxy, a harness.Answer) string {
	name, _, _ := strings.Cut(strings.TrimPrefix(a.TargetImage, p.Host+"/wt/"+a.ContainerToken+"/"), ":")
	return name
}

// TestResumeLargeBlob breaks the connection at every tenth of a gibibyte. Each
// break costs one request for the rest, and no byte is transferred twice.
func TestResumeLargeBlob(t *testing.T) {
	const size, tenth = 1 << 30, (1 << 30) / 10
	reg := upstream.NewFaulty(t)
	layer := reg.AddNoise(t, "library/large", size)
	p := harness.StartProxy(t, "", harness.RetryingSoon(harness.DockerHub(reg.URL)))
	a := p.Augment(t, untouched("large:1"))
	reg.SetPlan(func(g upstream.Get) upstream.Fault {
		after := tenth - g.Offset%tenth
		if g.Offset+after >= size {
			return upstream.Fault{}
		}
		return upstream.Fault{Kind: upstream.Reset, After: after}
	})
	resp, err := http.Get(blobURL(p, a, layer))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	h := sha256.New()
	n, err := io.Copy(h, resp.Body)
	if err != nil || n != size || resp.ContentLength != size {
		t.Errorf("got %d bytes of %d: %v", n, resp.ContentLength, err)
	}
	if got := "sha256:" + hex.EncodeToString(h.Sum(nil)); got != layer.String() {
		t.Errorf("got %s, want %s", got, layer)
	}
	want := []string{""}
	for at := int64(tenth); at < size; at += tenth {
		want = append(want, fmt.Sprintf("bytes=%d-%d", at, size-1))
	}
	var got []string
	for _, g := range reg.Gets() {
		got = append(got, g.Range)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("ranges that the upstream was asked for (-want +got):\n%s", diff)
	}
}

// faultCase is an image with one layer whose download fails in a given way.
type faultCase struct {
	name   string
	h2     bool
	first  []upstream.Fault // of the first requests for the layer, in order
	always upstream.Fault   // of every later request for the layer
	// What Docker and the server's log must say when the layer cannot be
	// downloaded. Both are empty if it can.
	docker, log string

	layer  digest.Digest
	image  harness.Answer
	output string
	err    error
}

func (c *faultCase) plan(g upstream.Get) upstream.Fault {
	switch {
	case g.Digest != c.layer:
		return upstream.Fault{}
	case g.Nth < len(c.first):
		return c.first[g.Nth]
	}
	return c.always
}

// denied is what Docker says when it gets a 403 with a reason. It does not repeat the
// request, as it would for 75 seconds after a 502.
const denied = "denied: pull blob"

func faultCases() []*faultCase {
	at := func(k upstream.Kind) upstream.Fault { return upstream.Fault{Kind: k, After: harness.MiB} }
	these := func(kinds ...upstream.Kind) (list []upstream.Fault) {
		for _, k := range kinds {
			list = append(list, at(k))
		}
		return list
	}
	return []*faultCase{
		{name: "reset", first: these(upstream.Reset)},
		{name: "resets", first: these(upstream.Reset, upstream.Reset)},
		{name: "closed", first: these(upstream.Closed)},
		{name: "short", first: these(upstream.Short)},
		{name: "short-twice", first: these(upstream.Short, upstream.Short)},
		{name: "stalled", first: these(upstream.Stalled)},
		{name: "range-ignored", first: these(upstream.Reset, upstream.Whole)},
		{name: "other-range", first: these(upstream.Reset, upstream.OtherRange)},
		{name: "other-range-always", first: these(upstream.Closed, upstream.OtherRange, upstream.Closed)},
		{name: "too-many", first: these(upstream.TooMany)},
		{name: "too-many-later", first: these(upstream.Reset, upstream.TooMany)},
		{name: "errors", first: these(upstream.ServerError, upstream.ServerError)},
		{name: "errors-later", first: these(upstream.Reset, upstream.ServerError, upstream.ServerError)},
		{name: "too-short-once", first: these(upstream.TooShort)},
		{name: "too-long-later", first: these(upstream.Reset, upstream.TooLong)},
		{name: "too-short-later", first: these(upstream.Reset, upstream.TooShort)},
		{name: "goaway", h2: true, first: these(upstream.GoAway)},
		{name: "goaway-twice", h2: true, first: these(upstream.GoAway, upstream.GoAway)},
		{name: "stream-reset", h2: true, first: these(upstream.Closed)},
		{name: "h2-reset", h2: true, first: these(upstream.Reset)},
		{name: "h2-stalled", h2: true, first: these(upstream.Stalled)},
		{name: "h2-short", h2: true, first: these(upstream.Short)},

		{name: "flipped", always: at(upstream.Flipped), docker: "filesystem layer verification failed for digest", log: `"status":200`},
		{name: "too-long", always: at(upstream.TooLong), docker: denied, log: "bytes, but the manifest says"},
		{name: "too-short", always: at(upstream.TooShort), docker: denied, log: "bytes, but the manifest says"},
		{name: "loop", always: at(upstream.Loop), docker: denied, log: "more than 10 redirects in a row"},
		{name: "gone", first: these(upstream.Reset), always: at(upstream.Missing), docker: "unknown blob", log: "answered 404 Not Found: it does not exist"},
		{name: "missing", always: at(upstream.Missing), docker: "unknown blob", log: "answered 404 Not Found: it does not exist"},
	}
}

// TestFaults pulls with Docker from an upstream with each kind of fault. A pull
// that cannot succeed fails with a reason, leaves no image behind, and does not
// harm the next pull.
func TestFaults(t *testing.T) {
	docker := harness.DockerEngine(t)
	plain := upstream.NewFaulty(t)
	secure, ca := upstream.NewFaultyTLS(t)
	p := harness.StartProxy(t, "", harness.RetryingSoon(map[string]string{"WAVEPROXY_REGISTRIES": fmt.Sprintf(
		`{docker.io: {url: %q}, h2.test: {url: %q, ca: %q}}`, plain.URL, secure.URL, ca)}))
	cases := faultCases()
	byRepository := map[string]*faultCase{}
	for i, c := range cases {
		reg, host := plain, ""
		if c.h2 {
			reg, host = secure, "h2.test/"
		}
		c.layer = reg.AddImage(t, "library/"+c.name, byte(i), 4<<10, 3*harness.MiB, 8<<10)[1]
		c.image = p.Augment(t, untouched(host+"library/"+c.name+":1"))
		byRepository["library/"+c.name] = c
	}
	plan := func(g upstream.Get) upstream.Fault { return byRepository[g.Repository].plan(g) }
	plain.SetPlan(plan)
	secure.SetPlan(plan)

	var wg sync.WaitGroup
	for _, c := range cases {
		wg.Go(func() { c.pull(t.Context(), docker, p) })
	}
	wg.Wait()
	messages := map[*faultCase]string{}
	for _, c := range cases {
		if c.docker == denied {
			_, messages[c] = harness.Get(t, blobURL(p, c.image, c.layer))
		}
	}
	gets := map[string]int{}
	for _, g := range append(plain.Gets(), secure.Gets()...) {
		if g.Digest == byRepository[g.Repository].layer {
			gets[g.Repository]++
		}
	}
	plain.SetPlan(nil)
	secure.SetPlan(nil)
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if n := gets["library/"+c.name]; n < len(c.first) {
				t.Errorf("%d requests for the layer are not enough to meet every fault", n)
			}
			if c.docker != "" {
				c.wantFailure(t, docker, p)
				if message, ok := messages[c]; ok && !strings.Contains(message, c.log) {
					t.Errorf("the client is told %s, want %q", message, c.log)
				}
				harness.MustPull(t, docker, c.image.TargetImage)
			} else if c.err != nil {
				t.Fatalf("%v\n%s", c.err, c.output)
			}
			c.wantImage(t, docker)
		})
	}
}

func (c *faultCase) wantFailure(t *testing.T, docker engine.Engine, p *harness.Proxy) {
	if c.err == nil {
		t.Error("the pull succeeded")
	}
	if _, err := docker.Run(t.Context(), c.image.TargetImage, engine.RunOptions{Args: []string{"true"}}); err == nil || !strings.Contains(err.Error(), "No such image") {
		t.Errorf("run after a failed pull: %v, want no such image", err)
	}
	if !strings.Contains(c.output, c.docker) {
		t.Errorf("Docker does not say %q: %s", c.docker, c.output)
	}
	lines := c.lines(p)
	if !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, c.log) }) {
		t.Errorf("the log does not say %q: %s", c.log, lines)
	}
}

// lines returns the lines of the server's log about the layer.
func (c *faultCase) lines(p *harness.Proxy) (lines []string) {
	for line := range strings.Lines(p.Log.String()) {
		if strings.Contains(line, c.layer.String()) && strings.Contains(line, `"method":"GET"`) {
			lines = append(lines, line)
		}
	}
	return lines
}

func (c *faultCase) pull(ctx context.Context, docker engine.Engine, p *harness.Proxy) {
	c.output, c.err = docker.Pull(ctx, c.image.TargetImage)
}

// wantImage runs the image and has it add up its files.
func (c *faultCase) wantImage(t *testing.T, docker engine.Engine) {
	out := harness.MustRun(t, docker, c.image.TargetImage, "wc", "-c", "/data/0", "/data/1", "/data/2")
	if want := fmt.Sprint(3*harness.MiB+(12<<10)) + " total\n"; !strings.HasSuffix(out, want) {
		t.Errorf("the files are %s, want %s", out, want)
	}
}
