//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// lab runs the servers, one contender at a time, and holds their files.
type lab struct {
	options
	dir              string
	images           *images
	certificate, key string // PEM files
	client           *http.Client
	upstream         *process
	upstreamLog      string
	slow             *slowUpstream
	nextPort         int
	prepared         map[preparation]error
}

func newLab(ctx context.Context, o options, dir string) (*lab, error) {
	l := &lab{options: o, dir: dir, nextPort: 9000, prepared: map[preparation]error{}}
	fmt.Fprintln(os.Stderr, "making images")
	layers, size := 8, int64(50e6)
	if o.short {
		size = 5e6
	}
	var err error
	if l.images, err = makeImages(filepath.Join(dir, "tree"), layers, size); err != nil {
		return nil, fmt.Errorf("make images: %w", err)
	}
	l.certificate, l.key = filepath.Join(dir, "certificate.pem"), filepath.Join(dir, "key.pem")
	pool, err := makeCertificate(l.certificate, l.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate: %w", err)
	}
	// With a configuration of its own the transport speaks HTTP/1.1 only.
	l.client = &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 8}}
	l.upstreamLog = filepath.Join(dir, "upstream.log")
	if err := os.WriteFile(l.upstreamLog, nil, 0o644); err != nil {
		return nil, err
	}
	l.slow, err = startSlowUpstream(ctx, l.images)
	return l, err
}

// full returns value in a run whose numbers count, and short in a smoke run.
func full[T any](l *lab, value, short T) T {
	if l.short {
		return short
	}
	return value
}

// address returns an address for the next server. No port is used twice, so that a
// late answer of one server never counts for another.
func (l *lab) address(in setup) (address, base string) {
	l.nextPort++
	address = fmt.Sprintf("127.0.0.1:%d", l.nextPort)
	if in.tls {
		return address, "https://" + address
	}
	return address, "http://" + address
}

// ready waits until a server answers.
func (l *lab) ready(ctx context.Context, p *process, base string) error {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v2/", nil)
		if err != nil {
			return err
		}
		resp, err := l.client.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return nil
			}
			err = errors.New(resp.Status)
		}
		if dead := p.alive(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w", p.name, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// with starts the upstream and a contender afresh and runs a measurement.
func (l *lab) with(ctx context.Context, c *contender, in setup, dir string, measure func(*server) error) (err error) {
	defer l.client.CloseIdleConnections()
	var s *server
	l.upstream, err = l.startUpstream(ctx)
	if l.upstream != nil {
		defer func() {
			err = errors.Join(err, l.upstream.stop())
			if s == nil {
				err = l.upstream.explain(err)
			}
		}()
	}
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	s, err = c.start(ctx, l, in, dir)
	if s != nil && s.process != l.upstream {
		defer func() { err = errors.Join(s.explain(err), s.stop()) }()
	}
	if err != nil {
		return err
	}
	return measure(s)
}

// ownDir returns the directory in which a contender keeps its data from one start to
// the next. For a cold setup it is a new directory, which cleanUp removes.
func (l *lab) ownDir(c *contender, in setup) (dir string, cleanUp func(), err error) {
	if in.cold {
		dir, err = os.MkdirTemp(l.dir, "cold-")
		return dir, func() { os.RemoveAll(dir) }, err
	}
	name := c.name
	if in.tls {
		name += "-tls"
	}
	return filepath.Join(l.dir, "data", name), func() {}, nil
}

// hasCache reports whether this waveproxy can keep blobs.
func (l *lab) hasCache(ctx context.Context) bool {
	cmd := exec.CommandContext(ctx, filepath.Join(l.dir, "waveproxy"), "config", "check")
	cmd.Env = []string{cacheSetting, "WAVEPROXY_STORAGE_DIR=" + filepath.Join(l.dir, "unused")}
	return cmd.Run() == nil
}
