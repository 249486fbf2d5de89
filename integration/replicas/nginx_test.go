package replicas

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestNginx pulls through nginx from two servers that share a storage.
func TestNginx(t *testing.T) {
	nginx, ok := findNginx(t)
	if !ok {
		return
	}
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:docker", "busybox:multi", "busybox:oci")
	certificate, key, pool := harness.SelfSigned(t)
	r := startReplicas(t, nginx, harness.DockerHub(reg.URL), certificate, key)

	t.Run("pull", func(t *testing.T) {
		for _, kind := range []string{"busybox:docker", "busybox:multi"} {
			a := r.Augment(t, harness.Request{ContainerImage: kind, ContainerConfig: harness.Greeter(t)})
			if !strings.HasPrefix(a.TargetImage, r.Host+"/wt/") {
				t.Errorf("the image is called %s", a.TargetImage)
			}
			if got := harness.Verify(t, a.TargetImage); got != a.TargetDigest {
				t.Errorf("%s: the tag gives %s, promised was %s", kind, got, a.TargetDigest)
			}
			if copier, ok := engine.FindSkopeo(t); ok {
				if got, err := copier.Copy(t.Context(), a.TargetImage); err != nil || string(got) != a.TargetDigest {
					t.Errorf("skopeo copies %s: %v", got, err)
				}
			}
		}
		for _, p := range []*harness.Proxy{r.one, r.two} {
			if !strings.Contains(p.Log.String(), "/manifests/") {
				t.Errorf("one server answers all requests; the other's log:\n%s", p.Log)
			}
		}
	})

	noise := make([]byte, 10<<20) // random, so that no compression makes it smaller
	rand.NewChaCha8([32]byte{}).Read(noise)
	layer := harness.LayerOf(t, harness.File{Name: "opt/noise", Mode: 0o644, Text: string(noise)})
	large := r.Augment(t, harness.Request{ContainerImage: "busybox:oci", ContainerConfig: &harness.Config{Layers: []harness.Layer{layer}}})
	blobs := fmt.Sprintf("/v2/wt/%s/library/busybox/blobs/", large.ContainerToken)

	t.Run("ranges", func(t *testing.T) {
		layers, err := harness.Pull(t, large.TargetImage, "amd64").Layers()
		if err != nil {
			t.Fatal(err)
		}
		for i, l := range layers {
			digest, err := l.Digest()
			if err != nil {
				t.Fatal(err)
			}
			url := r.URL + blobs + digest.String()
			whole := harness.Do(t, http.MethodGet, url)
			if got := harness.Sum([]byte(whole.Body)); got != digest.String() {
				t.Fatalf("layer %d: got %s, want %s", i, got, digest)
			}
			wantRanges(t, url, whole.Body)
		}
	})
	t.Run("slow client", func(t *testing.T) { r.readSlowly(t, blobs+layer.GzipDigest, layer.Archive) })
	t.Run("not compressed", func(t *testing.T) {
		for _, path := range []string{blobs + layer.GzipDigest, strings.Replace(blobs, "/blobs/", "/manifests/oci", 1)} {
			resp := harness.Do(t, http.MethodGet, r.URL+path, "Accept-Encoding", "gzip")
			length := resp.Header.Get("Content-Length")
			if resp.Status != http.StatusOK || resp.Header.Get("Content-Encoding") != "" || length != strconv.Itoa(len(resp.Body)) {
				t.Errorf("%s: status %d, %d bytes, header %v", path, resp.Status, len(resp.Body), resp.Header)
			}
		}
	})
	t.Run("client address", func(t *testing.T) { r.comeFrom(t, "127.0.0.2", "/service-info") })
	t.Run("the limit is the server's", func(t *testing.T) {
		a := r.Submit(t, `{"containerImage": "busybox:oci", "padding": "`+strings.Repeat("x", 33<<20)+`"}`)
		if a.Status != http.StatusRequestEntityTooLarge {
			t.Errorf("status %d: %s", a.Status, a.Raw)
		}
		harness.WantMessage(t, a.Raw, "api.max_body")
	})
	t.Run("TLS", func(t *testing.T) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost"}}
		defer transport.CloseIdleConnections()
		resp, err := (&http.Client{Transport: transport}).Get("https://" + r.https + blobs + layer.GzipDigest)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(body, layer.Archive) {
			t.Errorf("%s, %d bytes: %v", resp.Status, len(body), err)
		}
	})
	t.Run("one server gone", func(t *testing.T) {
		r.one.Stop()
		for range 4 { // would reach both servers in turn if nginx did not notice
			if got := harness.Verify(t, large.TargetImage); got != large.TargetDigest {
				t.Errorf("the tag gives %s, promised was %s", got, large.TargetDigest)
			}
		}
	})
}

// wantRanges requests parts of a blob and compares them with whole.
func wantRanges(t *testing.T, url, whole string) {
	t.Helper()
	size := len(whole)
	head := harness.Do(t, http.MethodHead, url)
	if head.Status != http.StatusOK || head.Header.Get("Content-Length") != strconv.Itoa(size) {
		t.Errorf("HEAD: status %d, header %v", head.Status, head.Header)
	}
	for header, want := range map[string][2]int{
		"bytes=0-":                           {0, size},
		"bytes=100-199":                      {100, 200},
		"bytes=-10":                          {size - 10, size},
		fmt.Sprintf("bytes=%d-", size-1):     {size - 1, size},
		fmt.Sprintf("bytes=10-%d", size+100): {10, size},
	} {
		resp := harness.Do(t, http.MethodGet, url, "Range", header)
		wantRange := fmt.Sprintf("bytes %d-%d/%d", want[0], want[1]-1, size)
		if resp.Status != http.StatusPartialContent || resp.Header.Get("Content-Range") != wantRange || resp.Body != whole[want[0]:want[1]] {
			t.Errorf("%s: status %d, %d bytes, Content-Range %q, want %q", header, resp.Status, len(resp.Body), resp.Header.Get("Content-Range"), wantRange)
		}
	}
	if resp := harness.Do(t, http.MethodGet, url, "Range", fmt.Sprintf("bytes=%d-", size)); resp.Status != http.StatusRequestedRangeNotSatisfiable {
		t.Errorf("behind the end: status %d", resp.Status)
	}
}

// readSlowly pauses after the first bytes of a blob. If nginx read on, it would
// have to write the rest to disk.
func (r *replicas) readSlowly(t *testing.T, path string, want []byte) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	got := make([]byte, 1)
	if _, err := io.ReadFull(resp.Body, got); err != nil {
		t.Fatal(err)
	}
	for range 200 { // long enough for nginx to read ahead
		if ready, err := r.Call(ctx, http.MethodGet, "/readyz", ""); err != nil || ready.Status != http.StatusOK {
			t.Fatalf("status %d: %v", ready.Status, err)
		}
	}
	rest, err := io.ReadAll(resp.Body)
	if got = append(got, rest...); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d of %d bytes: %v", len(got), len(want), err)
	}
}

// comeFrom sends a request to nginx from an address, with a forged
// X-Forwarded-For. The servers must log the true address.
func (r *replicas) comeFrom(t *testing.T, address, path string) {
	t.Helper()
	dialer := &net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(address)}}
	transport := &http.Transport{DialContext: dialer.DialContext}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, r.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Forwarded-For", "203.0.113.9")
	resp, err := (&http.Client{Transport: transport}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	harness.WaitFor(t, 10*time.Second, func() bool {
		return strings.Contains(r.one.Log.String()+r.two.Log.String(), `"path":"`+path+`"`)
	})
	for text := range strings.Lines(r.one.Log.String() + r.two.Log.String()) {
		var line struct{ Path, Client string }
		if json.Unmarshal([]byte(text), &line) == nil && line.Path == path && line.Client != address {
			t.Errorf("the servers take %s for the client, want %s", line.Client, address)
		}
	}
}
