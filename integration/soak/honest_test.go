package soak

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// client is a client with an address of its own, because the server counts by
// address.
type client struct {
	http.Client
	url            string
	user, password string
}

func newClient(address, url, user string) *client {
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	return &client{Client: http.Client{Transport: &http.Transport{DialContext: dialer.DialContext, MaxIdleConnsPerHost: 8}}, url: url, user: user, password: user + "'s password"}
}

// do sends a request and returns the status and at most 64 MiB of the body.
func (c *client) do(ctx context.Context, method, path string, body []byte) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.user != "" {
		req.SetBasicAuth(c.user, c.password)
	}
	resp, err := c.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	answered.Add(1)
	data, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
	return resp.StatusCode, data, err
}

// get is do for paths that must exist: any status but 200 is an error.
func (c *client) get(ctx context.Context, path string) ([]byte, error) {
	status, data, err := c.do(ctx, "GET", path, nil)
	if err == nil && status != http.StatusOK {
		err = fmt.Errorf("GET %s: status %d: %.200s", path, status, data)
	}
	return data, err
}

// submit posts a submission and returns the path of the image's repository.
func (c *client) submit(ctx context.Context, request any) (string, error) {
	status, data, err := c.do(ctx, "POST", "/v1alpha2/container", encode(request))
	if err != nil {
		return "", err
	}
	var answer struct{ TargetImage string }
	if status != http.StatusOK || json.Unmarshal(data, &answer) != nil {
		return "", fmt.Errorf("submit: status %d: %.200s", status, data)
	}
	_, name, _ := strings.Cut(answer.TargetImage, "/")
	name, _, _ = strings.Cut(name, ":")
	name, _, _ = strings.Cut(name, "@")
	return "/v2/" + name, nil
}

// pull reads a complete image and verifies every digest.
func (c *client) pull(ctx context.Context, repository, reference string) error {
	data, err := c.get(ctx, repository+"/manifests/"+reference)
	if err != nil {
		return err
	}
	var m ocispec.Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return err
	}
	for _, d := range append(m.Layers, m.Config) {
		blob, err := c.get(ctx, repository+"/blobs/"+d.Digest.String())
		if err != nil {
			return err
		}
		if digest.FromBytes(blob) != d.Digest {
			return fmt.Errorf("blob %s of %s has wrong bytes", d.Digest, repository)
		}
	}
	return nil
}

// sample holds the measurements of honest clients over a while.
type sample struct {
	mu     sync.Mutex
	took   []time.Duration
	failed []error
}

func (s *sample) add(took time.Duration, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.failed = append(s.failed, err)
		return
	}
	s.took = append(s.took, took)
}

// percentile returns the duration that p of 100 operations do not exceed.
func (s *sample) percentile(p int) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.took) == 0 {
		return 0
	}
	slices.Sort(s.took)
	return s.took[min(len(s.took)*p/100, len(s.took)-1)]
}

// honestClients is the number of concurrent honest clients, each at an address of
// its own.
const honestClients = 4

// work lets honest clients pull and submit for a while.
func (s *soak) work(ctx context.Context, length time.Duration) *sample {
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var found sample
	var wg sync.WaitGroup
	for i := range honestClients {
		c := newClient(fmt.Sprintf("127.0.1.%d", i+1), s.URL, fmt.Sprintf("honest%d", i))
		wg.Go(func() {
			defer c.CloseIdleConnections()
			for n := 0; ctx.Err() == nil; n++ {
				// An operation that has begun is finished, because a wait that is
				// cut short is no measurement.
				whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
				start := time.Now()
				err := s.operation(whole, c, n%5)
				found.add(time.Since(start), err)
				cancel()
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
	wg.Wait()
	return &found
}

// operation is one pull by token, pull by recipe, or submit with a pull. One of five
// submits, so that a fast machine stays below limits.submits.
func (s *soak) operation(ctx context.Context, c *client, n int) error {
	s.mu.Lock()
	tag := s.tag()
	s.submitted++
	env := fmt.Sprintf("N=%d", s.submitted)
	s.mu.Unlock()
	switch n {
	case 0, 2:
		return c.pull(ctx, s.Token, "1")
	case 1, 3:
		return c.pull(ctx, "/v2/wt/tools/good.test/team/app", tag)
	}
	repository, err := c.submit(ctx, submission(s.Good+"/team/app:"+tag, env))
	if err != nil {
		return err
	}
	return c.pull(ctx, repository, tag)
}

func submission(image string, env ...string) map[string]any {
	return map[string]any{"containerImage": image, "containerPlatform": "linux/amd64", "containerConfig": map[string]any{"env": env}}
}
