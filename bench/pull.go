//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/sync/errgroup"
)

// wholePull measures a pull as crane does it: manifest, config, and all layers
// at once, each compared with its digest.
func (l *lab) wholePull(ctx context.Context, s *server) (reading, error) {
	before, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	var times []float64
	for range full(l, 3, 1) {
		start := time.Now()
		if err := l.pull(ctx, s); err != nil {
			return reading{}, fmt.Errorf("pull: %w", err)
		}
		times = append(times, milliseconds(time.Since(start)))
	}
	after, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	spent := after.since(before)
	return reading{foreign: spent.foreign(), values: map[string]float64{
		"ms": median(times), "CPU s/pull": spent.cpu / float64(len(times)),
	}}, nil
}

func (l *lab) pull(ctx context.Context, s *server) error {
	ref, err := name.NewTag(s.address()+"/"+s.repository+":latest", name.Insecure)
	if err != nil {
		return err
	}
	transport := &http.Transport{MaxIdleConnsPerHost: len(l.images.layers) + 1}
	defer transport.CloseIdleConnections()
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithTransport(transport))
	if err != nil {
		return err
	}
	if _, err := img.RawConfigFile(); err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) < len(l.images.layers) {
		return fmt.Errorf("%d layers of %d", len(layers), len(l.images.layers))
	}
	var all errgroup.Group
	for _, layer := range layers {
		all.Go(func() error {
			body, err := layer.Compressed() // whose last read fails if the digest is another
			if err != nil {
				return err
			}
			defer body.Close()
			_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, body, make([]byte, 256<<10))
			return err
		})
	}
	return all.Wait()
}

const (
	coldPulls = 100
	// parallel is how many layers Docker and containerd take at a time.
	parallel = 3
)

// manyPulls measures pulls that all begin at once, and the bytes that the upstream
// sends for them.
func (l *lab) manyPulls(ctx context.Context, s *server) (reading, error) {
	before, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	var delivered atomic.Int64
	var pulls errgroup.Group
	n := full(l, coldPulls, 10)
	waited := make([][]time.Duration, n)
	for i := range n {
		pulls.Go(func() (err error) {
			waited[i], err = l.takeImage(ctx, s, parallel, &delivered)
			return err
		})
	}
	if err := pulls.Wait(); err != nil {
		return reading{}, err
	}
	after, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	if want := int64(n) * l.images.size(); delivered.Load() != want {
		return reading{}, fmt.Errorf("delivered %d bytes of %d", delivered.Load(), want)
	}
	sent, err := l.settled(ctx)
	if err != nil {
		return reading{}, err
	}
	spent := after.since(before)
	return reading{foreign: spent.foreign(), values: map[string]float64{
		"s": spent.seconds, "CPU s/GB": spent.cpu / float64(delivered.Load()) * 1e9,
		"first byte ms":   milliseconds(middle(waited)),
		"upstream GB":     float64(sent.bytes) / 1e9,
		"upstream GETs":   float64(sent.most),
		"sent per needed": float64(sent.bytes) / float64(l.images.size()),
	}}, nil
}

// takeImage takes the typical image's layers in their order, some at a time,
// and returns how long each took to begin.
func (l *lab) takeImage(ctx context.Context, s *server, parallel int, delivered *atomic.Int64) ([]time.Duration, error) {
	waited := make([]time.Duration, len(l.images.layers))
	var next atomic.Int64
	var connections errgroup.Group
	for range parallel {
		connections.Go(func() error {
			d := l.newDrain(s, delivered)
			defer d.close()
			for {
				i := int(next.Add(1)) - 1
				if i >= len(l.images.layers) {
					return nil
				}
				var err error
				if waited[i], err = d.get(ctx, s.repository, l.images.layers[i]); err != nil {
					return err
				}
			}
		})
	}
	return waited, connections.Wait()
}

// settled returns the upstream's traffic once it no longer changes, because the log
// has a request only after its end.
func (l *lab) settled(ctx context.Context) (traffic, error) {
	last := traffic{bytes: -1}
	for {
		t, err := l.sent()
		if err != nil || t == last {
			return t, err
		}
		last = t
		if err := sleep(ctx, 300*time.Millisecond); err != nil {
			return t, err
		}
	}
}

// fill measures one pull of everything through a server whose cache, if it has one, is
// empty.
func (l *lab) fill(ctx context.Context, s *server) (reading, error) {
	before, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	var delivered atomic.Int64
	waited, err := l.takeImage(ctx, s, len(l.images.layers), &delivered)
	if err != nil {
		return reading{}, err
	}
	took := time.Since(before.time).Seconds()
	// The work of a cache after the last byte counts as well.
	if err := sleep(ctx, time.Second); err != nil {
		return reading{}, err
	}
	after, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	spent := after.since(before)
	return reading{foreign: spent.foreign(), values: map[string]float64{
		"MB/s": float64(delivered.Load()) / 1e6 / took, "CPU s/GB": spent.cpu / float64(delivered.Load()) * 1e9,
		"first byte ms": milliseconds(middle([][]time.Duration{waited})),
	}}, nil
}

// middle returns the median of all times.
func middle(times [][]time.Duration) time.Duration {
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	return all[len(all)/2]
}
