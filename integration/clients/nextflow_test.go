package clients

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/crane"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

const (
	submits = 200
	workers = 8
)

// TestNextflowRun simulates the start of a workflow: hundreds of tasks with few
// different images, several at a time. Each submits, asks for the status and
// pulls.
func TestNextflowRun(t *testing.T) {
	reg := upstream.Registry(t)
	harness.PushAliases(t, reg, "busybox:multi", "ubuntu:latest")
	harness.PushAliases(t, reg, "busybox:docker-multi", "alpine:3.20")
	harness.PushAliases(t, reg, "busybox:oci", "biocontainers/samtools:1.21")
	harness.PushAliases(t, reg, "busybox:entry", "debian:bookworm")
	// The number of manifests that each image costs: the index and its image for
	// linux/amd64, or the image alone.
	manifests := map[string]int{"library/ubuntu:latest": 2, "library/alpine:3.20": 2, "biocontainers/samtools:1.21": 1, "library/debian:bookworm": 1}
	bin := harness.LayerOf(t, harness.File{Name: "usr/local/bin/proj.sh", Mode: 0o755, Text: "#!/bin/sh\necho project\n"})
	module := harness.LayerOf(t, harness.File{Name: "usr/bin/hello.sh", Mode: 0o755, Text: "#!/bin/sh\necho module\n"})
	recipes := []harness.Config{
		{},
		{Layers: []harness.Layer{bin}},
		{Layers: []harness.Layer{bin, module}},
		{Env: []string{"A=b", "C=d e"}},
		{Entrypoint: []string{"/usr/local/bin/proj.sh"}, Layers: []harness.Layer{bin}},
	}
	settings := harness.DockerHub(reg.URL)
	// With the usual lifetime, identical requests get another name every 4.5
	// hours; with this one, hardly ever while the test runs.
	settings["WAVEPROXY_TOKENS_TTL"] = "8760h"
	p := harness.StartProxy(t, "", settings)

	var bodies []string
	for _, image := range slices.Sorted(maps.Keys(manifests)) {
		for n, recipe := range recipes {
			bodies = append(bodies, harness.NextflowRequest(t, map[string]any{
				"containerImage": strings.TrimPrefix(image, "library/"), "containerConfig": harness.NextflowConfig(recipe), "fingerprint": fmt.Sprintf("%032x", n),
			}))
		}
	}
	reg.Reset()
	began := time.Now()
	answers := make([]harness.Answer, submits)
	atOnce(t, func(ctx context.Context, n int) (err error) {
		resp, err := p.Call(ctx, http.MethodPost, "/v1alpha2/container", bodies[n%len(bodies)])
		if err == nil {
			answers[n], err = resp.Answer()
		}
		if err == nil && (resp.Status != http.StatusOK || !answers[n].Succeeded) {
			err = fmt.Errorf("submit: %d %s", resp.Status, resp.Body)
		}
		return err
	})
	names := map[string]int{}
	for n, a := range answers {
		if first, ok := names[a.TargetImage]; ok && first != n%len(bodies) {
			t.Errorf("requests %d and %d have one name", first, n%len(bodies))
		}
		names[a.TargetImage] = n % len(bodies)
	}
	if len(names) != len(bodies) {
		t.Errorf("%d names for %d distinct requests", len(names), len(bodies))
	}

	// The tag of each image is confirmed once in two seconds, however many submit it.
	confirmations := len(manifests) * (1 + int(time.Since(began)/(2*time.Second)))
	atOnce(t, func(ctx context.Context, n int) error {
		if err := polled(ctx, p, answers[n].RequestID); err != nil {
			return err
		}
		return pulled(ctx, answers[n])
	})
	want, got := map[string]int{}, map[string]int{}
	for image, n := range manifests {
		repository, _, _ := strings.Cut(image, ":")
		want[repository] = n
	}
	seen := map[string]bool{}
	for _, r := range reg.Requests() {
		path, isGet := strings.CutPrefix(r, "GET /v2/")
		repository, _, isManifest := strings.Cut(path, "/manifests/")
		switch {
		case strings.HasPrefix(r, "HEAD ") && strings.Contains(r, "/manifests/"):
			if confirmations--; confirmations == -1 {
				t.Error("too many requests confirm the tags")
			}
		case isGet && isManifest:
			got[repository]++
			if seen[r] {
				t.Errorf("a second request for the same manifest: %s", r)
			}
			seen[r] = true
		case strings.HasPrefix(r, "HEAD ") && strings.Contains(r, "/blobs/"):
			// Proves that the caller may read a layer that another repository's image had.
		case !isGet || !strings.Contains(path, "/blobs/"):
			t.Errorf("unexpected request %s", r)
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("manifests by repository (-want +got):\n%s", diff)
	}
}

// atOnce calls do for every submit from several workers at once.
func atOnce(t *testing.T, do func(ctx context.Context, n int) error) {
	t.Helper()
	g, ctx := errgroup.WithContext(t.Context())
	g.SetLimit(workers)
	for n := range submits {
		g.Go(func() error { return do(ctx, n) })
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

// polled asks for the status, as Nextflow does unless the answer says that the
// request has succeeded. It reads the same members as Nextflow.
func polled(ctx context.Context, p *harness.Proxy, id string) error {
	resp, err := p.Call(ctx, http.MethodGet, "/v1alpha2/container/"+id+"/status", "")
	if err != nil {
		return err
	}
	var status struct {
		ID, Status, CreationTime string
		Succeeded                bool
	}
	if err := json.Unmarshal([]byte(resp.Body), &status); err != nil || resp.Status != http.StatusOK {
		return fmt.Errorf("status of %s: %d %s: %w", id, resp.Status, resp.Body, err)
	}
	created, err := time.Parse(time.RFC3339, status.CreationTime)
	if err != nil {
		return fmt.Errorf("creationTime: %w", err)
	}
	if age := time.Since(created); status.ID != id || status.Status != "DONE" || !status.Succeeded || age < 0 || age > time.Hour {
		return fmt.Errorf("status %s", resp.Body)
	}
	return nil
}

// pulled reads a complete image for linux/amd64, by tag and by digest. The client
// verifies it.
func pulled(ctx context.Context, a harness.Answer) error {
	tagless := a.TargetImage[:strings.LastIndexByte(a.TargetImage, ':')]
	for _, name := range []string{a.TargetImage, tagless + "@" + a.TargetDigest} {
		img, err := crane.Pull(name, crane.Insecure, crane.WithContext(ctx), crane.WithPlatform(&v1.Platform{OS: "linux", Architecture: "amd64"}))
		if err != nil {
			return err
		}
		layers, err := img.Layers()
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		for _, l := range layers {
			blob, err := l.Compressed()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			_, err = io.Copy(io.Discard, blob)
			blob.Close()
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}
