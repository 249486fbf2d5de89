package upstream

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// drip yields n bytes at each read, after a pause.
type drip struct {
	n, left int
	pause   time.Duration
}

func (d *drip) Read(p []byte) (int, error) {
	if d.left == 0 {
		return 0, io.EOF
	}
	time.Sleep(d.pause)
	n := min(d.n, d.left, len(p))
	d.left -= n
	return n, nil
}

func (d *drip) Close() error { return nil }

// TestPace: a host that sends less than 16 KiB/s for a minute is given up. One that
// is just fast enough, one with little to send, and a slow reader are not.
func TestPace(t *testing.T) {
	const second = 16 << 10
	for name, test := range map[string]struct {
		body   drip
		reader time.Duration // that the reader takes for each read
		want   time.Duration // after which it is given up; 0: never
	}{
		"a byte at a time": {drip{1, 1 << 20, time.Second}, 0, time.Minute},
		"almost":           {drip{second - 1, 100 * second, time.Second}, 0, time.Minute},
		"just fast enough": {drip{second, 1000 * second, time.Second}, 0, 0},
		"little, slowly":   {drip{1, 59, time.Second}, 0, 0},
		"a slow reader":    {drip{1000, 1e6, time.Millisecond}, time.Minute, 0},
		"in bursts":        {drip{30 * second, 1020 * second, 30 * time.Second}, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &paced{ReadCloser: &test.body, call: &call{op: "fetch layer", name: "l"}, host: "slow.example"}
				begun := time.Now()
				buffer := make([]byte, 1<<20)
				var err error
				for err == nil {
					_, err = p.Read(buffer)
					time.Sleep(test.reader)
				}
				if test.want == 0 {
					if err != io.EOF {
						t.Errorf("after %s: %v", time.Since(begun), err)
					}
					return
				}
				e, ok := errors.AsType[*Error](err)
				if !ok || e.Kind != Timeout || e.Host != "slow.example" || !strings.Contains(err.Error(), "16 KiB/s") || time.Since(begun) != test.want {
					t.Errorf("after %s: %v", time.Since(begun), err)
				}
			})
		})
	}
}

// TestLayersArePaced: layers have the bound, from wherever they come.
func TestLayersArePaced(t *testing.T) {
	s := newServer(t, endless)
	c, _ := newClient(t, listed(s))
	fetched, _, err := c.Fetch(t.Context(), s.URL+"/layer")
	if err != nil {
		t.Fatal(err)
	}
	defer fetched.Close()
	layer, err := c.Repository(image).Layer(t.Context(), ocispec.Descriptor{Digest: digest.FromString("layer"), Size: 1 << 40})
	if err != nil {
		t.Fatal(err)
	}
	defer layer.Close()
	for _, body := range []io.ReadCloser{fetched.ReadCloser, layer} {
		p, ok := body.(*paced)
		if !ok {
			t.Fatalf("%T has no minimal rate", body)
		}
		p.waited = pacePeriod // as if it had sent nothing
		if _, err := body.Read(make([]byte, 10)); err == nil {
			t.Error("a host that sent ten bytes in a minute goes on")
		}
	}
}
