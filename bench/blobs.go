//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// reading is the values of one contender in one round, by quantity.
type reading struct {
	values  map[string]float64
	foreign float64 // cores that other programs used meanwhile
}

// window is when a load is measured.
type window struct{ after, span time.Duration }

// fast is the window for streams at full speed.
func (l *lab) fast() window {
	return full(l, window{500 * time.Millisecond, 1800 * time.Millisecond}, window{100 * time.Millisecond, 250 * time.Millisecond})
}

// streams measures n connections that take blobs one after the other.
func (l *lab) streams(n int) measureFunc {
	return func(ctx context.Context, s *server) (reading, error) {
		return l.load(ctx, s, l.fast(), n, func(ctx context.Context, i int, delivered *atomic.Int64) error {
			return l.takeBlobs(ctx, s, i, s.repository, l.images.layers, delivered)
		})
	}
}

// injectedStreams measures the same for a layer that waveproxy has added. From the
// other contenders it takes the file with the same bytes.
func (l *lab) injectedStreams(n int) measureFunc {
	return func(ctx context.Context, s *server) (reading, error) {
		name := s.repository
		if s.process != l.upstream {
			var err error
			if name, err = l.augment(ctx, s, repository+":latest", l.images.large); err != nil {
				return reading{}, err
			}
			if err := l.verifyBlob(ctx, s.base+blobPath(name, l.images.large), l.images.large.Descriptor); err != nil {
				return reading{}, err
			}
		}
		return l.load(ctx, s, l.fast(), n, func(ctx context.Context, i int, delivered *atomic.Int64) error {
			return l.takeBlobs(ctx, s, i, name, []layer{l.images.large}, delivered)
		})
	}
}

// takeBlobs takes the layers in turn over one connection, the i-th first, until ctx
// ends.
func (l *lab) takeBlobs(ctx context.Context, s *server, i int, name string, layers []layer, delivered *atomic.Int64) error {
	d := l.newDrain(s, delivered)
	defer d.close()
	for ; ctx.Err() == nil; i++ {
		if _, err := d.get(ctx, name, layers[i%len(layers)]); err != nil {
			return err
		}
	}
	return nil
}

// load runs n streams and returns their measurement once they are under way.
func (l *lab) load(ctx context.Context, s *server, when window, n int, stream func(ctx context.Context, i int, delivered *atomic.Int64) error) (reading, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var delivered atomic.Int64
	streams, streaming := errgroup.WithContext(ctx)
	for i := range n {
		streams.Go(func() error {
			err := stream(streaming, i, &delivered)
			if ctx.Err() != nil {
				return nil // the load is over, and that is what ended the stream
			}
			return err
		})
	}
	result, err := l.observe(streaming, s, when, &delivered)
	stop()
	if err := errors.Join(streams.Wait(), err); err != nil {
		return reading{}, err
	}
	return result, nil
}

// observe returns the measurement of a running load. If ctx ends meanwhile, that is
// an error.
func (l *lab) observe(ctx context.Context, s *server, when window, delivered *atomic.Int64) (reading, error) {
	if err := sleep(ctx, when.after); err != nil {
		return reading{}, err
	}
	before, err := use(s.process)
	if err != nil {
		return reading{}, err
	}
	begun := delivered.Load()
	peak := before.rss
	var spent usage
	for spent.seconds < when.span.Seconds() {
		if err := sleep(ctx, when.span/20); err != nil {
			return reading{}, err
		}
		now, err := use(s.process)
		if err != nil {
			return reading{}, err
		}
		spent = now.since(before)
		peak = max(peak, now.rss)
	}
	bytes := float64(delivered.Load() - begun)
	if bytes == 0 {
		return reading{}, errors.New("no bytes were delivered")
	}
	return reading{foreign: spent.foreign(), values: map[string]float64{
		"MB/s": bytes / 1e6 / spent.seconds, "CPU s/GB": spent.cpu / (bytes / 1e9), "RSS MB": float64(peak) / 1e6,
	}}, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

const (
	slowRate = 200e3 // bytes per second of a slow stream
	slowTick = 100 * time.Millisecond
)

// slowStreams measures n connections that each take one blob more slowly than the
// server could send it.
func (l *lab) slowStreams(n int) measureFunc {
	return func(ctx context.Context, s *server) (reading, error) {
		when := full(l, window{4 * time.Second, 4 * time.Second}, window{2 * time.Second, time.Second})
		r, err := l.load(ctx, s, when, n, func(ctx context.Context, i int, delivered *atomic.Int64) error {
			// Not all at the same moment.
			if err := sleep(ctx, time.Duration(i)*slowTick/time.Duration(n)); err != nil {
				return err
			}
			return l.takeSlowly(ctx, s, l.images.layers[i%len(l.images.layers)], delivered)
		})
		if want := slowRate * float64(n) / 1e6; err == nil && r.values["MB/s"] < full(l, 0.8, 0.4)*want {
			return r, fmt.Errorf("delivered %.0f MB/s of %.0f", r.values["MB/s"], want)
		}
		return r, err
	}
}

func (l *lab) takeSlowly(ctx context.Context, s *server, blob layer, delivered *atomic.Int64) error {
	d := l.newDrain(s, delivered)
	defer d.close()
	if err := d.dial(ctx); err != nil {
		return err
	}
	conn := d.conn
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, err := conn.Write(request(s.repository, blob, "")); err != nil {
		return err
	}
	n, err := readHeader(conn, d.buffer[:], blob.Size)
	if err != nil {
		return err
	}
	tick := time.NewTicker(slowTick)
	defer tick.Stop()
	const share = slowRate * int64(slowTick) / int64(time.Second)
	for left := blob.Size - int64(n); left > 0; left -= share {
		if err := d.discard(min(left, share)); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return errors.New("the blob is too small to be taken slowly for so long")
}
