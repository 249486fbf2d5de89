package attack

import (
	"archive/tar"
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
)

// TestAttackBombs submits small layers that unpack to more than the limit, or
// whose decoder takes much memory.
func TestAttackBombs(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	zeros := make([]byte, 4*harness.MiB)
	entry := tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})[:512]
	file := tarOf(t, tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: 1 << 40, Format: tar.FormatGNU})[:512]
	entries := bytes.Repeat(entry, 10_000)
	for name, test := range map[string]struct {
		layer  harness.Layer
		remote []byte // the content at the layer's location, if that is a URL
		limit  time.Duration
		memory int // MiB
		says   string
	}{
		"17 GiB of zeros":              {harness.Layer{Location: "URL"}, gzipped(t, 17<<8, zeros), patience, 256, "200 times"},
		"17 GiB of a file":             {harness.Layer{Location: "URL"}, append(gzipped(t, 1, file), gzipped(t, 17<<8, zeros)...), patience, 256, "limit"},
		"10,000,000 entries":           {harness.Layer{Location: inlined(gzipped(t, 1000, entries))}, nil, 2 * patience, 256, "1000000 entries"},
		"10,000,000 entries by zstd":   {harness.Layer{Location: "URL"}, zstandard(t, 1000, entries), patience, 256, "200 times"},
		"8 GiB in 25 KB":               {harness.Layer{Location: deflated(t, gzipped(t, 2<<10, zeros))}, nil, patience, 256, "200 times"},
		"64 MiB by zlib":               {harness.Layer{Location: deflated(t, make([]byte, 64*harness.MiB))}, nil, patience, 256, "api.max_body"},
		"a gzip header without an end": {harness.Layer{Location: inlined(append([]byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("x"), 20*harness.MiB)...))}, nil, patience, 256, ""},
		"a zstd window of 512 MiB":     {harness.Layer{Location: inlined(zstdFrame(29, 1))}, nil, patience, 256, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, pid := impatient(t, h.settings())
			before := harness.Stored(t, p.Dir)
			if test.remote != nil {
				h.on(repositoryOf(name), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(test.remote) })
				test.layer.Location = h.URL + "/l.tar.gz?of=" + repositoryOf(name)
			}
			r := wantAnswered(t, p, pid, string(harness.MustJSON(t, map[string]any{
				"containerImage": h.host() + "/good:x", "containerConfig": harness.Config{Layers: []harness.Layer{test.layer}},
			})), test.limit, test.memory)
			if r.Status != http.StatusBadRequest && r.Status != http.StatusRequestEntityTooLarge {
				t.Errorf("BREACH: status %d, want 400 or 413: %.300s", r.Status, r.Body)
			}
			harness.WantMessage(t, r.Body, "containerConfig.layers[0]", test.says)
			if after := harness.Stored(t, p.Dir); after != before {
				t.Errorf("it left something:\n%s", after)
			}
		})
	}
}

// TestAttackWindows submits many layers at a time, each with the largest window
// that the decoder accepts.
func TestAttackWindows(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p, pid := impatient(t, h.settings())
	body := string(harness.MustJSON(t, map[string]any{"containerImage": h.host() + "/good:x", "containerConfig": layerAt(inlined(zstdFrame(27, 1100)))}))
	ctx := within(t, pid, time.Minute)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := send(ctx, p, body); err != nil {
				t.Errorf("BREACH: a layer of 4 KB: %v", err)
			}
		})
	}
	wg.Wait()
	// The server unpacks few at a time, and the garbage of earlier windows
	// remains: 680 MiB were measured. All twelve at once took 3,400 MiB.
	wantMemory(t, pid, 1024)
}

// TestAttackLayerSizes has layers at URLs whose length differs from what the
// request or the headers announce, or that never end.
func TestAttackLayerSizes(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	settings := h.settings()
	settings["WAVEPROXY_LAYERS_MAX_SIZE"] = "1MiB"
	p := harness.StartProxy(t, "", settings)
	pid := p.PID
	archive, unseen := h.Layer.Archive, kernelHolds(t)
	sized := func(n int, body []byte) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", strconv.Itoa(n))
			_, _ = w.Write(body)
		}
	}
	without := func(start string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { endless(w, start, "x") }
	}
	for name, test := range map[string]struct {
		location http.HandlerFunc
		size     int // in the request; 0 is left out
		status   int
	}{
		"honest":                      {sized(len(archive), archive), len(archive), 200},
		"longer than its origin says": {sized(len(archive)-1, archive[:len(archive)-1]), 0, 400},
		"cut off":                     {sized(len(archive)+1, archive), 0, 502},
		"nothing":                     {sized(0, nil), 0, 400},
		"not what the request says":   {sized(len(archive), archive), len(archive) - 1, 400},
		"more than the request says":  {without(string(archive)), len(archive), 400},
		"a terabyte":                  {sized(1<<40, archive), 0, 400},
		"a terabyte, it is said":      {sized(len(archive), archive), 1 << 40, 400},
		"no end":                      {without(""), 0, 400},
		"no end of an archive":        {without(string(archive)), 0, 400},
		"a page":                      {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(404); endless(w, "", "<html>") }, 0, 404},
	} {
		for _, known := range []bool{false, true} { // whether the request has its digest
			repository := repositoryOf(name)
			t.Run(name, func(t *testing.T) {
				h.on(repository, test.location)
				layer := harness.Layer{Location: h.URL + "/l.tar.gz?of=" + repository, GzipSize: test.size}
				if known {
					layer.GzipDigest = h.Layer.GzipDigest
				}
				before := harness.Stored(t, p.Dir)
				r := p.Post(t, submission, map[string]any{"containerImage": h.host() + "/good:x", "containerConfig": harness.Config{Layers: []harness.Layer{layer}}})
				wantStatus(t, name, r, test.status)
				if after := harness.Stored(t, p.Dir); test.status != http.StatusOK && after != before {
					t.Errorf("BREACH: it left something:\n%s", after)
				}
				if _, taken := h.result(t, repository); taken > 2*(2*harness.MiB+unseen) {
					t.Errorf("BREACH: %d bytes were taken", taken)
				}
			})
		}
	}
	wantMemory(t, pid, 64)
}
