package api

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

func TestRefusesLayers(t *testing.T) {
	for name, test := range map[string]struct {
		location string
		status   int
		says     string
	}{
		"zlib bomb":  {"gzip:" + zlibBomb(t), 413, "api.max_body"},
		"not zlib":   {"gzip:AAAA", 400, "zlib"},
		"cut zlib":   {"gzip:eJwrSKw=", 400, "zlib"},
		"not base64": {"data:!", 400, "base64"},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			w := call(h, "POST", container, `{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA"},{"location":"`+test.location+`"}]}}`)
			checkError(t, w, test.status, "containerConfig.layers[1] (wave --layer, a module's resources, a pipeline's bin): ")
			checkError(t, w, test.status, test.says)
			if len(f.resolved) != 0 {
				t.Error("the image was resolved without its layer")
			}
		})
	}
}

// TestStagingIsClosed: whatever becomes of a request, its layers' files are removed.
func TestStagingIsClosed(t *testing.T) {
	for body, status := range map[string]int{
		`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA"}]}}`:                       200,
		`{"containerImage":"a","containerConfig":{"layers":[{"location":"data:AAAA"},{"location":"data:!"}]}}`: 400,
		`{"containerImage":"a","containerConfig":{"layers":[{"location":"gzip:eJwrSKzMyU9MAQAL3QLr"}]}}`:       200,
	} {
		f, h := newAPI()
		if w := call(h, "POST", container, body); w.Code != status || f.closed != 1 {
			t.Errorf("%.100s: status %d, closed %d times", body, w.Code, f.closed)
		}
	}
}

// TestLayerErrors: the error names the layer, and keeps the status and Retry-After.
func TestLayerErrors(t *testing.T) {
	const body = `{"containerImage":"a","containerConfig":{"layers":[{"location":"https://user:hunter2@host/l.tar.gz?token=hunter2"}]}}`
	const include = `{"containerImage":"a","containerIncludes":["b"]}`
	for name, test := range map[string]struct {
		body   string
		err    error
		status int
		says   string
		retry  string
	}{
		"mismatch":     {body, front.Refuse(400, front.Unsupported, "layer gzipDigest: expected x, found y"), 400, "containerConfig.layers[0] (https://host/l.tar.gz): layer gzipDigest: expected x, found y", ""},
		"absent":       {include, fmt.Errorf("include b: %w", &upstream.Error{Kind: upstream.NotFound, Name: "b"}), 404, "containerIncludes[0] (wave --include): ", ""},
		"rate limited": {include, &upstream.Error{Kind: upstream.RateLimited, Status: 429, RetryAfter: 90 * time.Second}, 429, "try again in 1m30s", "90"},
		"unreachable":  {body, &upstream.Error{Kind: upstream.Unreachable, Host: "host"}, 502, "no connection to host", ""},
		"internal":     {body, errors.New("disk full"), 500, "internal error", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f, h := newAPI()
			f.err = test.err
			w := call(h, "POST", container, test.body)
			checkError(t, w, test.status, test.says)
			if got := w.Header().Get("Retry-After"); got != test.retry {
				t.Errorf("Retry-After: %q, want %q", got, test.retry)
			}
		})
	}
}

// zlibBomb is 4 MiB of zeros in a few KiB.
func zlibBomb(t *testing.T) string {
	t.Helper()
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	if _, err := z.Write(make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(b.Bytes())
}

// TestManyIncluded: the number of layers that included images have together is
// bounded.
func TestManyIncluded(t *testing.T) {
	for each, status := range map[int]int{256: 200, 257: 400} {
		f, h := newAPI()
		f.more = each - 1
		w := call(h, "POST", container, `{"containerImage":"a","containerIncludes":["b","c"]}`)
		if w.Code != status || status == 400 && !strings.Contains(w.Body.String(), "at most 512") {
			t.Errorf("%d layers each: %d %s", each, w.Code, w.Body)
		}
	}
}
