package integration

import (
	"archive/tar"
	"bytes"
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// TestAttackBombs brings layers that are small and unpack to more than anybody
// wants to read, or take more memory than they should.
func TestAttackBombs(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	zeros := make([]byte, 4*mib)
	entry := tarOf(t, tar.Header{Name: "a", Typeflag: tar.TypeReg})[:512]
	file := tarOf(t, tar.Header{Name: "zeros", Typeflag: tar.TypeReg, Size: 1 << 40, Format: tar.FormatGNU})[:512]
	entries := bytes.Repeat(entry, 10_000)
	for name, test := range map[string]struct {
		layer  testLayer
		remote []byte // what is at its location, if that is a URL
		limit  time.Duration
		memory int // MiB
		says   string
	}{
		// The limit is 16 GiB unpacked, which take 15 s.
		"17 GiB of zeros":              {testLayer{Location: "URL"}, gzipped(t, 17<<8, zeros), time.Minute, 256, "limit"},
		"17 GiB of a file":             {testLayer{Location: "URL"}, append(gzipped(t, 1, file), gzipped(t, 17<<8, zeros)...), time.Minute, 256, "limit"},
		"10,000,000 entries":           {testLayer{Location: inlined(gzipped(t, 1000, entries))}, nil, 4 * patience, 256, "1000000 entries"},
		"10,000,000 entries by zstd":   {testLayer{Location: "URL"}, zstandard(t, 1000, entries), 4 * patience, 256, "1000000 entries"},
		"64 MiB by zlib":               {testLayer{Location: deflated(t, make([]byte, 64*mib))}, nil, patience, 256, "api.max_body"},
		"a gzip header without an end": {testLayer{Location: inlined(append([]byte{0x1f, 0x8b, 8, 8, 0, 0, 0, 0, 0, 0}, bytes.Repeat([]byte("x"), 20*mib)...))}, nil, patience, 256, ""},
		"a zstd window of 512 MiB":     {testLayer{Location: inlined(zstdFrame(29, 1))}, nil, patience, 256, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, pid := impatient(t, h.settings())
			before := stored(t, p.Dir)
			if test.remote != nil {
				h.on(repositoryOf(name), func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(test.remote) })
				test.layer.Location = h.URL + "/l.tar.gz?of=" + repositoryOf(name)
			}
			r := wantAnswered(t, p, pid, string(mustJSON(t, map[string]any{
				"containerImage": h.host() + "/good:x", "containerConfig": config{Layers: []testLayer{test.layer}},
			})), test.limit, test.memory)
			if r.status != http.StatusBadRequest && r.status != http.StatusRequestEntityTooLarge {
				t.Errorf("OPEN DOOR: status %d, want 400 or 413: %.300s", r.status, r.body)
			}
			wantMessage(t, r.body, "containerConfig.layers[0]", test.says)
			if after := stored(t, p.Dir); after != before {
				t.Errorf("it left something:\n%s", after)
			}
		})
	}
}

// TestAttackWindows has many layers at a time ask for the most memory that
// unpacking one can take.
func TestAttackWindows(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	p, pid := impatient(t, h.settings())
	body := string(mustJSON(t, map[string]any{"containerImage": h.host() + "/good:x", "containerConfig": layerAt(inlined(zstdFrame(27, 1100)))}))
	ctx := within(t, pid, time.Minute)
	var wg sync.WaitGroup
	for range 12 {
		wg.Go(func() {
			if _, err := p.send(ctx, body); err != nil {
				t.Errorf("OPEN DOOR: a layer of 4 KB: %v", err)
			}
		})
	}
	wg.Wait()
	// Few windows at a time, and the garbage of those before them: 680 MiB were
	// seen. All twelve at once took 3,400.
	wantMemory(t, pid, 1024)
}

// TestAttackLayerSizes has layers at URLs that are not as long as somebody
// says, or as anything.
func TestAttackLayerSizes(t *testing.T) {
	t.Parallel()
	h := newHostile(t)
	settings := h.settings()
	settings["WAVEPROXY_LAYERS_MAX_SIZE"] = "1MiB"
	p := startProxy(t, "", settings)
	pid := p.pid(t)
	archive, unseen := h.Layer.archive, kernelHolds(t)
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
		size     int // as the request says; 0 is nothing
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
				layer := testLayer{Location: h.URL + "/l.tar.gz?of=" + repository, GzipSize: test.size}
				if known {
					layer.GzipDigest = h.Layer.GzipDigest
				}
				before := stored(t, p.Dir)
				r := p.post(t, submission, map[string]any{"containerImage": h.host() + "/good:x", "containerConfig": config{Layers: []testLayer{layer}}})
				wantStatus(t, name, r, test.status)
				if after := stored(t, p.Dir); test.status != http.StatusOK && after != before {
					t.Errorf("OPEN DOOR: it left something:\n%s", after)
				}
				if _, taken := h.result(t, repository); taken > 2*(2*mib+unseen) {
					t.Errorf("OPEN DOOR: %d bytes were taken", taken)
				}
			})
		}
	}
	wantMemory(t, pid, 64)
}
