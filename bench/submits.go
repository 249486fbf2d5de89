//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"
)

// submits measures n clients that each submit another recipe as soon as the previous one is
// answered: a script and a variable of its own, upon one image, which is
// in the server's memory.
func (l *lab) submits(n int) measureFunc {
	return func(ctx context.Context, s *server) (reading, error) {
		span := full(l, 4*time.Second, 250*time.Millisecond)
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}}
		defer client.CloseIdleConnections()
		begun := time.Now().UnixNano()
		var made, answered atomic.Int64
		var over atomic.Bool
		loops, looping := errgroup.WithContext(ctx)
		for range n {
			loops.Go(func() error {
				for !over.Load() {
					body, err := distinct(fmt.Sprint(begun, made.Add(1)))
					if err != nil {
						return err
					}
					if _, err := l.submitBy(ctx, client, s, body); err != nil {
						return err
					}
					answered.Add(1)
				}
				return nil
			})
		}
		spent, done, err := spendWhile(looping, s, span, &answered)
		over.Store(true)
		if err := loops.Wait(); err != nil {
			return reading{}, err
		}
		return reading{foreign: spent.foreign(), values: map[string]float64{
			"req/s": done / spent.seconds, "CPU µs/req": spent.cpu / done * 1e6,
		}}, err
	}
}

// distinct returns a submission like no other.
func distinct(name string) ([]byte, error) {
	var archive bytes.Buffer
	z, _ := gzip.NewWriterLevel(&archive, gzip.BestSpeed)
	t := tar.NewWriter(z)
	script := bytes.Repeat([]byte("echo "+name+"\n"), 20)
	err := t.WriteHeader(&tar.Header{Name: "run.sh", Mode: 0o755, Size: int64(len(script))})
	if err == nil {
		_, err = t.Write(script)
	}
	if err == nil {
		err = t.Close()
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, err
	}
	return json.Marshal(map[string]any{"containerImage": repository + ":latest", "containerConfig": map[string]any{
		"env":    []string{"RUN=" + name},
		"layers": []any{map[string]any{"location": "data:" + base64.StdEncoding.EncodeToString(archive.Bytes())}},
	}})
}
