package pull

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// pushRandom pushes an image of random bytes and returns its layers.
func pushRandom(t *testing.T, reg *upstream.Server, tag string, size, layers int64) []digest.Digest {
	t.Helper()
	image, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(reg.Host+"/library/"+tag, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image, remote.WithContext(t.Context())); err != nil {
		t.Fatal(err)
	}
	return layerDigests(t, image)
}

func layerDigests(t *testing.T, image v1.Image) []digest.Digest {
	t.Helper()
	manifest, err := image.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	var list []digest.Digest
	for _, l := range manifest.Layers {
		list = append(list, digest.Digest(l.Digest.String()))
	}
	return list
}

// fetchBlob reads a blob of an augmented image and checks it.
func fetchBlob(ctx context.Context, p *harness.Proxy, a harness.Answer, d digest.Digest) error {
	repository, _, _ := strings.Cut(strings.TrimPrefix(a.TargetImage, p.Host+"/"), ":")
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.URL+"/v2/"+repository+"/blobs/"+d.String(), nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	verifier := d.Verifier()
	n, err := io.Copy(verifier, resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode != http.StatusOK:
		return fmt.Errorf("%s", resp.Status)
	case !verifier.Verified():
		return fmt.Errorf("%d bytes that do not have the digest %s, as if they were complete", n, d)
	}
	return nil
}

// TestColdPulls: however many clients pull a new image at once, the registry sends
// each of its blobs once. After a restart it sends none.
func TestColdPulls(t *testing.T) {
	reg := upstream.Registry(t)
	layers := pushRandom(t, reg, "cold:1", 2<<20, 8)
	dir := t.TempDir()
	p := harness.StartProxy(t, dir, harness.WithCache(harness.DockerHub(reg.URL), "1GiB"))
	a := p.Augment(t, harness.Request{ContainerImage: "cold:1", ContainerPlatform: ""})
	reg.Reset()
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			for _, d := range layers {
				if err := fetchBlob(t.Context(), p, a, d); err != nil {
					t.Errorf("%s: %v", d, err)
				}
			}
		})
	}
	wg.Wait()
	if got := reg.Requests(); len(got) != len(layers) {
		t.Errorf("%d requests for %d blobs that are pulled 100 times: %q", len(got), len(layers), got)
	}
	p.Stop()
	p = harness.StartProxy(t, dir, harness.WithCache(harness.DockerHub(reg.URL), "1GiB"))
	a = p.Augment(t, harness.Request{ContainerImage: "cold:1"})
	reg.Reset()
	for _, d := range layers {
		if err := fetchBlob(t.Context(), p, a, d); err != nil {
			t.Error(err)
		}
	}
	for _, r := range reg.Requests() {
		if !strings.HasPrefix(r, http.MethodHead) {
			t.Errorf("after a restart: %s", r)
		}
	}
}

// TestCacheIsBounded: the cache evicts blobs to make room for new ones, and a
// blob larger than the cache is streamed.
func TestCacheIsBounded(t *testing.T) {
	reg := upstream.Registry(t)
	layers := pushRandom(t, reg, "bound:1", 1<<20, 8)
	p := harness.StartProxy(t, "", harness.WithCache(harness.DockerHub(reg.URL), "3MiB"))
	a := p.Augment(t, harness.Request{ContainerImage: "bound:1"})
	large := pushRandom(t, reg, "bound:2", 4<<20, 1)
	b := p.Augment(t, harness.Request{ContainerImage: "bound:2"})
	for range 2 {
		for _, d := range layers {
			if err := fetchBlob(t.Context(), p, a, d); err != nil {
				t.Error(err)
			}
			if size := cacheFiles(t, p.Dir, nil); size > 3<<20 {
				t.Fatalf("the cache has %d bytes", size)
			}
		}
		if err := fetchBlob(t.Context(), p, b, large[0]); err != nil {
			t.Errorf("a blob larger than the cache: %v", err)
		}
	}
}

// cacheFiles returns the sum of the sizes of the cache's files.
func cacheFiles(t *testing.T, dir string, each func(path string)) (size int64) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(dir, "cache"), func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() || e.Name() == ".lock" {
			return err
		}
		info, err := e.Info()
		if err == nil {
			size += info.Size()
			if each != nil {
				each(path)
			}
		}
		return nil // the file may have been evicted meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	return size
}

// TestCachedBlobsArePrivate: a blob in the cache is no permission. A client whose
// credential can no longer read it from its registry does not get it, although the
// digest belongs to an image that the client may pull.
func TestCachedBlobsArePrivate(t *testing.T) {
	push, pull := harness.Pusher(), harness.Puller("cache")
	reg := upstream.TokenRegistry(t, push, pull)
	upstream.PushAs(t, reg.Host, push, "busybox:oci")
	dir := t.TempDir()
	p := harness.StartProxy(t, dir, harness.WithCache(harness.OneRegistry(reg.Host, map[string]string{"username": pull.Name, "password": pull.Password}), "1GiB"))
	a := p.Augment(t, harness.Request{ContainerImage: reg.Host + "/library/busybox:oci", ContainerConfig: harness.Greeter(t)})
	harness.Verify(t, a.TargetImage)
	p.Stop()
	settings := harness.WithCache(harness.OneRegistry(reg.Host, map[string]string{"username": pull.Name, "password": harness.SecretFor("withdrawn")}), "1GiB")
	settings["WAVEPROXY_HTTP_ADDR"] = p.Host
	harness.StartProxy(t, dir, settings)
	if err := harness.CraneValidate(t, a.TargetImage); err == nil || !strings.Contains(err.Error(), "DENIED") {
		t.Errorf("with a withdrawn credential: %v", err)
	}
}

// TestKillDuringFills kills the server in the middle of 200 cache fills, again
// and again. No blob in the cache is ever wrong, and no unfinished file stays.
func TestKillDuringFills(t *testing.T) {
	const rounds = 50
	reg := upstream.Registry(t)
	dir := t.TempDir()
	settings := harness.WithCache(harness.DockerHub(reg.URL), "1GiB")
	var layers [2][]digest.Digest
	for i := range layers {
		layers[i] = pushRandom(t, reg, fmt.Sprintf("fill:%d", i), 64<<10, 100)
	}
	var survived int
	for round := range rounds {
		p := harness.StartProxy(t, dir, settings)
		var wg sync.WaitGroup
		for i, list := range layers {
			a := p.Augment(t, harness.Request{ContainerImage: fmt.Sprintf("fill:%d", i)})
			for _, d := range list {
				wg.Go(func() {
					if err := fetchBlob(t.Context(), p, a, d); err != nil && strings.Contains(err.Error(), "as if they were complete") {
						t.Error(err)
					}
				})
			}
		}
		time.Sleep(rand.N(60 * time.Millisecond))
		p.Kill()
		wg.Wait()
		var damaged []string
		count := 0
		cacheFiles(t, dir, func(path string) {
			if strings.HasPrefix(filepath.Base(path), ".tmp-") {
				return // until the next start
			}
			count++
			if bad := misnamed(path); bad != "" {
				damaged = append(damaged, bad)
			}
		})
		if len(damaged) > 0 {
			t.Fatalf("round %d: %q", round, damaged)
		}
		survived = max(survived, count)
		if count == 200 { // empty a part of the cache, so that fills go on
			cacheFiles(t, dir, func(path string) {
				if rand.N(4) > 0 {
					_ = os.Remove(path)
				}
			})
		}
	}
	if survived == 0 {
		t.Error("no fill was ever finished, so nothing was tested")
	}
	harness.StartProxy(t, dir, settings)
	cacheFiles(t, dir, func(path string) {
		if strings.HasPrefix(filepath.Base(path), ".tmp-") {
			t.Errorf("%s stays after a restart", path)
		}
	})
}

// misnamed returns what is wrong with a file of the cache, or "".
func misnamed(path string) string {
	parts := strings.Split(filepath.Base(path), "-") // algorithm, hex, registry, size
	if len(parts) != 4 {
		return path + ": not the name of a blob"
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(parts[0]), parts[1])
	if err := d.Validate(); err != nil {
		return path + ": " + err.Error()
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if found := digest.FromBytes(data); found != d {
		return fmt.Sprintf("%s has the digest %s", path, found)
	}
	return ""
}
