//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// connections is how many clients ask for manifests.
const connections = 32

// asker is one connection that asks for the typical image's manifest. Each
// answer must have the same body as the first one, which net/http has read.
type asker struct {
	conn    net.Conn
	request []byte
	body    []byte
	buffer  []byte
}

// askers opens connections and sends one request on each, which warms the server.
func askers(ctx context.Context, s *server) (all []*asker, closeAll func(), err error) {
	closeAll = func() {
		for _, a := range all {
			a.conn.Close()
		}
	}
	for range connections {
		conn, err := (&net.Dialer{Timeout: stallTimeout}).DialContext(ctx, "tcp", s.address())
		if err != nil {
			return all, closeAll, err
		}
		a := &asker{conn: conn, buffer: make([]byte, 64<<10)}
		all = append(all, a)
		a.request = fmt.Appendf(nil, "GET /v2/%s/manifests/latest HTTP/1.1\r\nHost: localhost\r\nUser-Agent: bench\r\nAccept: %s\r\n\r\n", s.repository, acceptManifest)
		if a.body, err = a.first(); err != nil {
			return all, closeAll, fmt.Errorf("first manifest: %w", err)
		}
	}
	return all, closeAll, nil
}

func (a *asker) first() ([]byte, error) {
	_ = a.conn.SetDeadline(time.Now().Add(stallTimeout))
	if _, err := a.conn.Write(a.request); err != nil {
		return nil, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(a.conn), nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && (resp.StatusCode != http.StatusOK || int64(len(body)) != resp.ContentLength) {
		err = fmt.Errorf("%s with %d bytes of %d", resp.Status, len(body), resp.ContentLength)
	}
	return body, err
}

// ask sends one request and reads the answer.
func (a *asker) ask() error {
	if _, err := a.conn.Write(a.request); err != nil {
		return err
	}
	for n := 0; ; {
		m, err := a.conn.Read(a.buffer[n:])
		if err != nil {
			return err
		}
		n += m
		end := bytes.Index(a.buffer[:n], []byte("\r\n\r\n"))
		if end < 0 || n-end-4 < len(a.body) {
			continue
		}
		if !bytes.HasPrefix(a.buffer[:n], []byte("HTTP/1.1 200 ")) || !bytes.Equal(a.buffer[end+4:n], a.body) {
			return fmt.Errorf("another answer than before: %.200q", a.buffer[:n])
		}
		return nil
	}
}

// closedLoop measures clients that each ask again as soon as they are answered.
func (l *lab) closedLoop(ctx context.Context, s *server) (reading, error) {
	span := full(l, 2*time.Second, 250*time.Millisecond)
	all, closeAll, err := askers(ctx, s)
	defer closeAll()
	if err != nil {
		return reading{}, err
	}
	var answered atomic.Int64
	var over atomic.Bool
	loops, looping := errgroup.WithContext(ctx)
	for _, a := range all {
		_ = a.conn.SetDeadline(time.Now().Add(span + stallTimeout))
		loops.Go(func() error {
			for !over.Load() {
				if err := a.ask(); err != nil {
					return err
				}
				answered.Add(1)
			}
			return nil
		})
	}
	spent, n, err := spendWhile(looping, s, span, &answered)
	over.Store(true)
	if err := errors.Join(loops.Wait(), err); err != nil {
		return reading{}, err
	}
	return reading{foreign: spent.foreign(), values: map[string]float64{
		"req/s": n / spent.seconds, "CPU µs/req": spent.cpu / n * 1e6,
	}}, nil
}

// spendWhile returns the server's usage during a span, and the number of requests
// answered in it.
func spendWhile(ctx context.Context, s *server, span time.Duration, answered *atomic.Int64) (usage, float64, error) {
	if err := sleep(ctx, span/4); err != nil {
		return usage{}, 0, err
	}
	before, err := use(s.process)
	if err != nil {
		return usage{}, 0, err
	}
	begun := answered.Load()
	if err := sleep(ctx, span); err != nil {
		return usage{}, 0, err
	}
	after, err := use(s.process)
	return after.since(before), float64(answered.Load() - begun), err
}

// openLoop measures the time to an answer when requests come at a fixed rate
// per second, however long the answers take. A late answer delays the requests
// behind it on its connection, and their waiting counts. The lateness of the client's
// own timer does not.
func (l *lab) openLoop(rate func(*server) int) measureFunc {
	return func(ctx context.Context, s *server) (reading, error) {
		span := full(l, 5*time.Second, 500*time.Millisecond)
		all, closeAll, err := askers(ctx, s)
		defer closeAll()
		if err != nil {
			return reading{}, err
		}
		before, err := use(s.process)
		if err != nil {
			return reading{}, err
		}
		interval := time.Second * connections / time.Duration(rate(s))
		took := make([][]time.Duration, len(all))
		var loops errgroup.Group
		start := time.Now()
		for i, a := range all {
			_ = a.conn.SetDeadline(start.Add(span + stallTimeout))
			loops.Go(func() (err error) {
				took[i], err = a.keepAsking(ctx, start.Add(interval*time.Duration(i)/connections), start.Add(span), interval)
				return err
			})
		}
		if err := loops.Wait(); err != nil {
			return reading{}, err
		}
		after, err := use(s.process)
		if err != nil {
			return reading{}, err
		}
		times := slices.Sorted(slices.Values(slices.Concat(took...)))
		return reading{foreign: after.since(before).foreign(), values: map[string]float64{
			"p50 ms": milliseconds(times[len(times)/2]), "p99 ms": milliseconds(times[len(times)*99/100]),
		}}, nil
	}
}

// keepAsking asks at every interval and returns how long the answers took.
func (a *asker) keepAsking(ctx context.Context, due, end time.Time, interval time.Duration) (took []time.Duration, err error) {
	for ; due.Before(end) && err == nil; due = due.Add(interval) {
		from := due
		if wait := time.Until(due); wait > 0 {
			if err := sleep(ctx, wait); err != nil {
				return nil, err
			}
			from = time.Now()
		}
		err = a.ask()
		took = append(took, time.Since(from))
	}
	return took, err
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
