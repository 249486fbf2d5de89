package integration

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/crane"

	"github.com/waveproxy/waveproxy/integration/upstream"
)

// nextflowRequest is a submission member for member as Nextflow writes it.
func nextflowRequest(t *testing.T, image string, env []string, layers []testLayer) string {
	t.Helper()
	text := func(v any) string {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	return fmt.Sprintf(`{"towerAccessToken":null,"towerRefreshToken":null,"towerWorkspaceId":null,"towerEndpoint":"https://api.cloud.seqera.io",`+
		`"containerImage":%s,"containerFile":null,"containerConfig":{"entrypoint":null,"cmd":null,"env":%s,"workingDir":null,"layers":%s},`+
		`"containerPlatform":"linux/amd64","buildRepository":null,"cacheRepository":null,"timestamp":"%s","fingerprint":"96bd07ba6f2c0eaac3b819e2a6dec826",`+
		`"freeze":false,"format":null,"dryRun":false,"workflowId":null,"containerIncludes":null,"packages":null,"nameStrategy":null,"mirror":false,`+
		`"scanMode":null,"scanLevels":null,"buildCompression":null,"buildTemplate":null}`,
		text(image), text(env), text(layers), time.Now().Format(time.RFC3339Nano))
}

// TestNextflowRun plays a workflow: 8 workers submit 20 distinct requests ten
// times each, and every image is pulled.
func TestNextflowRun(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi", "busybox:docker-multi", "busybox:entry", "busybox:oci")
	p := startProxy(t, "", hub(reg.URL))
	images := []string{"busybox:multi", "busybox:docker-multi", "busybox:entry", "busybox:oci"}
	var requests []string
	for _, image := range images {
		for recipe := range 5 {
			layer := layerOf(t, file{name: fmt.Sprintf("usr/local/bin/task-%d", recipe), mode: 0o755, text: image})
			requests = append(requests, nextflowRequest(t, image, []string{fmt.Sprintf("RECIPE=%d", recipe)}, []testLayer{layer}))
		}
	}
	reg.Reset()
	answers := make([]answer, 10*len(requests))
	jobs := make(chan int)
	var workers sync.WaitGroup
	for range 8 {
		workers.Go(func() {
			for i := range jobs {
				answers[i] = p.submit(t, requests[i%len(requests)])
			}
		})
	}
	for i := range answers {
		jobs <- i
	}
	close(jobs)
	workers.Wait()

	names := map[string]int{}
	for i, a := range answers {
		if a.status != http.StatusOK || !a.Succeeded {
			t.Fatalf("submission %d: %d %s", i, a.status, a.raw)
		}
		if first, seen := names[a.TargetImage]; seen && first != i%len(requests) {
			t.Errorf("requests %d and %d got the same name", first, i%len(requests))
		}
		names[a.TargetImage] = i % len(requests)
	}
	if len(names) != 20 {
		t.Errorf("%d distinct names, want 20", len(names))
	}
	manifests := map[string]int{}
	for _, r := range reg.Requests() {
		if strings.Contains(r, "/manifests/") {
			manifests[r]++
		}
	}
	// Two of the images are indexes, which take the manifest for amd64, too.
	if len(manifests) != 6 {
		t.Errorf("%d manifests were asked for, want 6: %v", len(manifests), manifests)
	}
	for r, n := range manifests {
		if n != 1 {
			t.Errorf("%s was asked for %d times", r, n)
		}
	}
	for name := range names {
		pulled, err := crane.Pull(name, crane.Insecure, crane.WithContext(t.Context()))
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, pulled)
	}
	for _, a := range answers[:20] {
		var status struct {
			ID, Status, CreationTime string
			Succeeded                bool
		}
		code, body := get(t, p.URL+"/v1alpha2/container/"+a.RequestID+"/status")
		if err := json.Unmarshal([]byte(body), &status); err != nil || code != http.StatusOK {
			t.Fatalf("status: %d %s", code, body)
		}
		if status.ID != a.RequestID || status.Status != "DONE" || !status.Succeeded || mustTime(t, status.CreationTime).IsZero() {
			t.Errorf("status %+v", status)
		}
	}
}

// TestLargeBodies: the biggest bundles that Nextflow sends fit, and what is too
// big is told so.
func TestLargeBodies(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci")
	p := startProxy(t, "", hub(reg.URL))
	noise := incompressible(10 << 20)
	layer := layerOf(t, file{name: "opt/big", mode: 0o644, text: noise})
	body := nextflowRequest(t, "busybox:oci", nil, []testLayer{layer})
	if len(body) < 13<<20 {
		t.Fatalf("the request has only %d bytes", len(body))
	}
	a := p.augment(t, body)
	if got := tree(t, pull(t, a.TargetImage, "amd64"))["opt/big"]; got != sum([]byte(noise)) {
		t.Errorf("the file is %s", got)
	}
	tooBig := p.submit(t, `{"containerImage":"`+strings.Repeat("x", 33<<20)+`"}`)
	if tooBig.status != http.StatusRequestEntityTooLarge || !strings.Contains(tooBig.Message, "api.max_body") {
		t.Errorf("33 MiB: %d %s", tooBig.status, tooBig.Message)
	}
}

// incompressible returns bytes without a pattern, the same on every run.
func incompressible(n int) string {
	data := make([]byte, n)
	x := uint64(0x9E3779B97F4A7C15)
	for i := range data {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		data[i] = byte(x)
	}
	return string(data)
}
