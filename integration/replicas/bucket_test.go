package replicas

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestBucketReplicas pulls from three servers that share nothing but a bucket, while a
// tag moves and a server is killed. Each serves all that one has advertised or minted.
func TestBucketReplicas(t *testing.T) {
	t.Parallel()
	bucket, _, ok := harness.Bucket(t)
	if !ok {
		return
	}
	reg := upstream.Registry(t)
	move := movingTag(t, reg.Host)
	settings := harness.WithScripts(t, reg)
	maps.Copy(settings, bucket)
	servers := make([]*harness.Proxy, 3)
	var urls []string
	for i := range servers {
		servers[i] = harness.StartProxy(t, "", settings)
		urls = append(urls, servers[i].URL)
	}
	tags := []string{"moving", "oci", "multi", "entry"}
	var mu sync.Mutex
	advertised := map[string]map[string]bool{} // digests by tag
	pulls := func(n int) {
		t.Helper()
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() {
				for i := worker; i < n; i += 8 {
					tag := tags[i%len(tags)]
					root, err := pullThrough(t, urls, tag)
					if err != nil {
						t.Errorf("pull %d, %s: %v", i, tag, err)
						continue
					}
					mu.Lock()
					if advertised[tag] == nil {
						advertised[tag] = map[string]bool{}
					}
					advertised[tag][root] = true
					mu.Unlock()
				}
			})
		}
		wg.Wait()
	}
	pulls(400)
	move("oci")
	time.Sleep(harness.TagLife)
	pulls(200)
	if n := len(advertised["moving"]); n != 2 {
		t.Errorf("the tag that moved was seen as %d images, want 2", n)
	}
	address := servers[2].Address(t)
	servers[2].Kill()
	urls = urls[:2]
	pulls(200)
	settings["WAVEPROXY_HTTP_ADDR"] = address
	servers[2] = harness.StartProxy(t, "", settings)
	urls = append(urls, servers[2].URL)
	pulls(200)
	for _, url := range urls {
		for tag, roots := range advertised {
			for root := range roots {
				resp := harness.Do(t, http.MethodGet, url+"/v2/wt/scripts/library/busybox/manifests/"+root)
				if got := harness.Sum([]byte(resp.Body)); resp.Status != http.StatusOK || got != root {
					t.Errorf("%s of %s at %s: status %d, digest %s", root, tag, url, resp.Status, got)
				}
			}
		}
	}
	bucketTokens(t, servers, bucket)
}

// bucketTokens mints at each server, pulls at the others, and revokes.
func bucketTokens(t *testing.T, servers []*harness.Proxy, bucket map[string]string) {
	env := []string{"WAVEPROXY_STORAGE_DIR=" + t.TempDir()}
	for k, v := range bucket {
		env = append(env, k+"="+v)
	}
	noise := make([]byte, 600_000) // too large for the object of a grant
	rand.NewChaCha8([32]byte{1}).Read(noise)
	layer := harness.LayerOf(t, harness.File{Name: "opt/noise", Mode: 0o644, Text: string(noise)})
	for i, minting := range servers {
		a := minting.Augment(t, harness.Request{ContainerImage: "busybox:multi", ContainerConfig: &harness.Config{
			Layers: []harness.Layer{layer}, Env: []string{fmt.Sprint("SERVER=", i)},
		}})
		path := fmt.Sprintf("/v2/wt/%s/library/busybox/", a.ContainerToken)
		for _, s := range servers {
			if got := harness.Verify(t, s.Host+"/wt/"+a.ContainerToken+"/library/busybox:multi"); got != a.TargetDigest {
				t.Errorf("%s gives %s, promised was %s", s.URL, got, a.TargetDigest)
			}
			if blob := harness.Do(t, http.MethodGet, s.URL+path+"blobs/"+layer.GzipDigest, "Range", "bytes=599000-"); blob.Status != http.StatusPartialContent || blob.Body != string(layer.Archive[599000:]) {
				t.Errorf("a range at %s: status %d, %d bytes", s.URL, blob.Status, len(blob.Body))
			}
		}
		if _, stderr, err := harness.Run(t, env, "token", "revoke", a.ContainerToken); err != nil {
			t.Fatalf("%v\n%s", err, stderr)
		}
		revoked := time.Now()
		for _, s := range servers {
			harness.WaitFor(t, 5*time.Second-time.Since(revoked), func() bool {
				return harness.Do(t, http.MethodGet, s.URL+path+"manifests/multi").Status != http.StatusOK
			})
		}
	}
}

// TestBucketRedirect: large layers come from the bucket, which the client reaches with
// the URL that it gets and no credential.
func TestBucketRedirect(t *testing.T) {
	t.Parallel()
	bucket, dir, ok := harness.Bucket(t)
	if !ok {
		return
	}
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	settings := harness.DockerHub(reg.URL)
	maps.Copy(settings, bucket)
	settings["WAVEPROXY_STORAGE_REDIRECT"] = "true"
	p := harness.StartProxy(t, "", settings)
	noise := make([]byte, 600_000)
	rand.NewChaCha8([32]byte{2}).Read(noise)
	layer := harness.LayerOf(t, harness.File{Name: "opt/noise", Mode: 0o644, Text: string(noise)})
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:multi", ContainerConfig: &harness.Config{Layers: []harness.Layer{layer}}})
	blob := fmt.Sprintf("%s/v2/wt/%s/library/busybox/blobs/%s", p.URL, a.ContainerToken, layer.GzipDigest)
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Get(blob)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusTemporaryRedirect || !strings.HasPrefix(resp.Header.Get("Location"), settings["WAVEPROXY_STORAGE_S3_ENDPOINT"]) {
		t.Fatalf("%s, %v", resp.Status, resp.Header)
	}
	if got := harness.Do(t, http.MethodGet, resp.Header.Get("Location")); harness.Sum([]byte(got.Body)) != layer.GzipDigest {
		t.Errorf("the bucket gives %d, %d bytes", got.Status, len(got.Body))
	}
	if head := harness.Do(t, http.MethodHead, blob); head.Status != http.StatusOK {
		t.Errorf("HEAD: %d", head.Status)
	}
	// The client follows no redirect from a name to a private address.
	image := strings.Replace(a.TargetImage, "localhost", "127.0.0.1", 1)
	if got := harness.Verify(t, image); got != a.TargetDigest {
		t.Errorf("the tag gives %s, promised was %s", got, a.TargetDigest)
	}
	// What is in the bucket has no secret that a pull does not need.
	err = filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if leaks := harness.Leaks(data); len(leaks) > 0 {
			t.Errorf("%s has secrets: %q", path, leaks)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
