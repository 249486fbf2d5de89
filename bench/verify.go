//go:build linux

package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// preparation is the key of a check that all measurements of a contender share.
type preparation struct {
	contender *contender
	tls       bool
}

// prepare checks once that the contender serves the right bytes. A contender that
// keeps blobs is asked until it has kept them all, so that the last check reads from
// its cache.
func (l *lab) prepare(ctx context.Context, c *contender, in setup) error {
	key := preparation{c, in.tls}
	if err, done := l.prepared[key]; done {
		if err != nil {
			return fmt.Errorf("%s failed its check, see above", c.name)
		}
		return nil
	}
	in = setup{tls: in.tls, upstream: countedUpstream}
	if in.tls {
		in.upstream = tlsUpstream
	}
	dir, _, err := l.ownDir(c, in)
	if err != nil {
		return err
	}
	err = l.with(ctx, c, in, dir, func(s *server) error {
		if err := l.verify(ctx, s); err != nil || !c.cache {
			return err
		}
		for range 20 {
			time.Sleep(250 * time.Millisecond)
			before, err := l.sent()
			if err != nil {
				return err
			}
			if err := l.verify(ctx, s); err != nil {
				return err
			}
			after, err := l.sent()
			if err != nil {
				return err
			}
			if after.bytes == before.bytes {
				return nil
			}
		}
		return errors.New("does not keep the blobs it served")
	})
	if err != nil {
		err = fmt.Errorf("check %s before it is measured: %w", c.name, err)
	}
	l.prepared[key] = err
	return err
}

// verify pulls the typical image from the server and compares it with the digests in
// its manifest, and these with the digests of the images that were made.
func (l *lab) verify(ctx context.Context, s *server) error {
	var m ocispec.Manifest
	if err := l.document(ctx, s.base+"/v2/"+s.repository+"/manifests/latest", &m); err != nil {
		return err
	}
	for _, want := range l.images.layers {
		if !slices.ContainsFunc(m.Layers, func(d ocispec.Descriptor) bool { return d.Digest == want.Digest && d.Size == want.Size }) {
			return fmt.Errorf("the manifest lacks layer %s", want.Digest)
		}
	}
	for _, d := range append(m.Layers, m.Config) {
		if err := l.verifyBlob(ctx, s.base+blobPath(s.repository, layer{Descriptor: d}), d); err != nil {
			return err
		}
	}
	return nil
}

func (l *lab) verifyBlob(ctx context.Context, url string, want ocispec.Descriptor) error {
	body, err := l.open(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	hash := sha256.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{hash}, body, make([]byte, 256<<10))
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	if found := digest.NewDigest(digest.SHA256, hash); found != want.Digest || n != want.Size {
		return fmt.Errorf("%s has %d bytes with digest %s", url, n, found)
	}
	return nil
}

// acceptManifest is the Accept header of clients.
const acceptManifest = ocispec.MediaTypeImageManifest + ", " + ocispec.MediaTypeImageIndex

func (l *lab) open(ctx context.Context, url string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", acceptManifest)
	resp, err := l.client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		resp.Body.Close()
		return nil, fmt.Errorf("GET %s: %s", url, resp.Status)
	}
	return resp.Body, nil
}

// document reads JSON.
func (l *lab) document(ctx context.Context, url string, v any) error {
	body, err := l.open(ctx, url)
	if err != nil {
		return err
	}
	defer body.Close()
	data, err := io.ReadAll(io.LimitReader(body, 4<<20))
	if err != nil {
		return fmt.Errorf("read %s: %w", url, err)
	}
	return json.Unmarshal(data, v)
}

// traffic is the typical image's layers as the counted upstream has sent them.
type traffic struct {
	bytes int64
	most  int // GETs of the layer with the most GETs
}

// sent returns the traffic in the upstream's log.
func (l *lab) sent() (traffic, error) {
	f, err := os.Open(l.upstreamLog)
	if err != nil {
		return traffic{}, err
	}
	defer f.Close()
	var t traffic
	gets := map[digest.Digest]int{}
	for _, l := range l.images.layers {
		gets[l.Digest] = 0
	}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var method, path string
		var status int
		var n int64
		if _, err := fmt.Sscan(lines.Text(), &method, &path, &status, &n); err != nil {
			return t, fmt.Errorf("upstream's log has %q: %w", lines.Text(), err)
		}
		d := digest.Digest(path[strings.LastIndexByte(path, '/')+1:])
		if _, counted := gets[d]; counted && method == http.MethodGet {
			t.bytes += n
			gets[d]++
			t.most = max(t.most, gets[d])
		}
	}
	return t, nil
}
