package pull

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/crane"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// TestPull augments each kind of image and has a foreign client check every
// digest, size and diff ID of every platform, by tag and by digest.
func TestPull(t *testing.T) {
	reg := upstream.Registry(t)
	digests := upstream.PushAll(t, reg.Host)
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	for _, kind := range harness.BaseImages {
		t.Run(kind, func(t *testing.T) {
			a := p.Augment(t, harness.Request{ContainerImage: kind, ContainerConfig: harness.Greeter(t)})
			if a.SourceDigest != digests[kind].String() {
				t.Errorf("pinned to %s, want %s", a.SourceDigest, digests[kind])
			}
			if want := p.Host + "/wt/" + a.ContainerToken + "/library/" + kind; a.TargetImage != want {
				t.Errorf("image name %s, want %s", a.TargetImage, want)
			}
			byTag := harness.Verify(t, a.TargetImage)
			if byTag != a.TargetDigest {
				t.Errorf("the tag gives %s, promised was %s", byTag, a.TargetDigest)
			}
			err := harness.CraneValidate(t, a.TargetImage)
			if kind == "busybox:zstd" && err != nil {
				// crane validates gzip layers only: it refuses the base image, too.
				if harness.CraneValidate(t, reg.Host+"/library/"+kind) != nil {
					err = nil
				}
			}
			if err != nil {
				t.Errorf("crane validate: %v", err)
			}
			tagless := strings.TrimSuffix(a.TargetImage, ":"+strings.Split(kind, ":")[1])
			if byDigest := harness.Verify(t, tagless+"@"+a.TargetDigest); byDigest != byTag {
				t.Errorf("by digest %s, by tag %s", byDigest, byTag)
			}
		})
	}
}

// TestAugmentedContents compares an augmented image with its base: file system
// and config have the recipe's additions and everything of the base.
func TestAugmentedContents(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:entry", "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:entry", ContainerConfig: harness.Greeter(t)})

	base, got := harness.Pull(t, reg.Host+"/library/busybox:entry", "amd64"), harness.Pull(t, a.TargetImage, "amd64")
	want := harness.Files(t, base)
	want["opt"], want["opt/greet"] = "dir", "dir"
	want["opt/greet/run"] = "#!/bin/sh\necho \"$GREETING $(pwd) $*\"\n"
	if diff := cmp.Diff(want, harness.Files(t, got)); diff != "" {
		t.Errorf("file system (-want +got):\n%s", diff)
	}
	baseConfig, gotConfig := harness.MustConfig(t, base), harness.MustConfig(t, got)
	if diff := cmp.Diff([]string{"/opt/greet/run"}, gotConfig.Config.Entrypoint); diff != "" {
		t.Error("entrypoint", diff)
	}
	if diff := cmp.Diff([]string{"from", "cmd"}, gotConfig.Config.Cmd); diff != "" {
		t.Error("cmd", diff)
	}
	if gotConfig.Config.WorkingDir != "/opt/greet" {
		t.Errorf("working directory %q", gotConfig.Config.WorkingDir)
	}
	if !slices.Contains(gotConfig.Config.Env, "GREETING=hello") || !slices.ContainsFunc(gotConfig.Config.Env, func(e string) bool { return strings.HasPrefix(e, "WAVE_ENTRY_CHAIN=[") }) {
		t.Errorf("env %q", gotConfig.Config.Env)
	}
	if n, m := len(gotConfig.RootFS.DiffIDs), len(baseConfig.RootFS.DiffIDs); n != m+1 {
		t.Errorf("%d layers, base has %d", n, m)
	}
	for _, arch := range []string{"amd64", "arm64"} {
		a := p.Augment(t, harness.Request{ContainerImage: "busybox:multi", ContainerConfig: harness.Greeter(t)})
		files := harness.Files(t, harness.Pull(t, a.TargetImage, arch))
		if files["etc/image-arch"] != arch+"\n" || files["opt/greet/run"] == "" {
			t.Errorf("%s: image for %q with greeter %q", arch, files["etc/image-arch"], files["opt/greet/run"])
		}
	}
}

// TestRequests counts the upstream requests of a submission and a pull. They
// decide how long users wait, and Docker Hub limits them. The first submission reads
// each layer of the base once, because it has to know where the added files land.
func TestRequests(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:oci", "busybox:multi", "busybox:layers60")
	for _, test := range []struct {
		image, platform                           string
		mintManifests, mintConfigs, untouchedBlob int
	}{
		{"busybox:oci", "", 1, 1, 1},
		{"busybox:layers60", "linux/amd64", 1, 1, 60},
		{"busybox:multi", "linux/amd64", 2, 1, 1},
		{"busybox:multi", "", 3, 2, 2},
	} {
		t.Run(test.image+" "+test.platform, func(t *testing.T) {
			p := harness.StartProxy(t, "", harness.DockerHub(reg.URL)) // new, so that it has read no image yet
			reg.Reset()
			a := p.Augment(t, harness.Request{ContainerImage: test.image, ContainerPlatform: test.platform, ContainerConfig: harness.Greeter(t)})
			wantRequests(t, "mint", reg.Requests(), test.mintManifests, test.mintConfigs+test.untouchedBlob)

			reg.Reset()
			other := harness.Greeter(t)
			other.Env = append(other.Env, "ANOTHER=recipe")
			p.Augment(t, harness.Request{ContainerImage: test.image, ContainerPlatform: test.platform, ContainerConfig: other})
			wantRequests(t, "another mint at once", reg.Requests(), 0, 0)

			reg.Reset()
			for range 3 { // HEAD and GET of our own documents cost no upstream request
				if _, err := crane.Digest(a.TargetImage, crane.Insecure); err != nil {
					t.Fatal(err)
				}
				if _, err := crane.Manifest(a.TargetImage, crane.Insecure); err != nil {
					t.Fatal(err)
				}
			}
			wantRequests(t, "manifests", reg.Requests(), 0, 0)

			harness.Verify(t, a.TargetImage)
			requests := reg.Requests()
			slices.Sort(requests)
			unique := slices.Compact(slices.Clone(requests))
			wantRequests(t, "pull", requests, 0, test.untouchedBlob)
			if len(unique) != len(requests) {
				t.Errorf("a blob was asked for more than once: %v", requests)
			}
		})
	}
}

func wantRequests(t *testing.T, what string, requests []string, manifests, blobs int) {
	t.Helper()
	var m, b int
	for _, r := range requests {
		switch {
		case strings.HasPrefix(r, "GET ") && strings.Contains(r, "/manifests/"):
			m++
		case strings.HasPrefix(r, "GET ") && strings.Contains(r, "/blobs/"):
			b++
		default:
			t.Errorf("%s: unexpected request %s", what, r)
		}
	}
	if m != manifests || b != blobs {
		t.Errorf("%s: %d manifests and %d blobs, want %d and %d:\n%s", what, m, b, manifests, blobs, strings.Join(requests, "\n"))
	}
}

// TestSameAfterRestart: an advertised image can be served by a new process, and
// by another server on the same storage, even if the tag moves.
func TestSameAfterRestart(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi", "busybox:oci")
	first := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	req := harness.Request{ContainerImage: "busybox:multi", ContainerConfig: harness.Greeter(t)}
	a := first.Augment(t, req)
	tail := strings.TrimPrefix(a.TargetImage, first.Host)

	// The tag moves: another image takes its place.
	if err := crane.Copy(reg.Host+"/library/busybox:oci", reg.Host+"/library/busybox:multi", crane.Insecure); err != nil {
		t.Fatal(err)
	}
	second := harness.StartProxy(t, first.Dir, harness.DockerHub(reg.URL))
	if got := harness.Verify(t, second.Host+tail); got != a.TargetDigest {
		t.Errorf("another server on the same storage gives %s, want %s", got, a.TargetDigest)
	}
	first.Stop()
	third := harness.StartProxy(t, first.Dir, harness.DockerHub(reg.URL))
	if got := harness.Verify(t, third.Host+tail); got != a.TargetDigest {
		t.Errorf("after a restart: %s, want %s", got, a.TargetDigest)
	}
	if b := third.Augment(t, req); b.ContainerToken == a.ContainerToken || b.SourceDigest == a.SourceDigest {
		t.Error("a new submission did not see that the tag had moved")
	}
}

// TestIdempotent: equal requests get equal names on every server with the same
// storage. Different requests never do.
func TestIdempotent(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi", "busybox:oci")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	base := harness.Request{ContainerImage: "busybox:multi", ContainerConfig: harness.Greeter(t), ContainerPlatform: "linux/amd64"}
	name := p.Augment(t, base).ContainerToken
	if again := p.Augment(t, base).ContainerToken; again != name {
		t.Error("the same request got another name")
	}
	other := harness.Greeter(t)
	other.Env = []string{"GREETING=bonjour"}
	seen := map[string]string{name: "base"}
	for what, r := range map[string]harness.Request{
		"image":    {ContainerImage: "busybox:oci", ContainerConfig: harness.Greeter(t), ContainerPlatform: "linux/amd64"},
		"recipe":   {ContainerImage: "busybox:multi", ContainerConfig: other, ContainerPlatform: "linux/amd64"},
		"platform": {ContainerImage: "busybox:multi", ContainerConfig: harness.Greeter(t), ContainerPlatform: "linux/arm64"},
		"nothing":  {ContainerImage: "busybox:multi", ContainerPlatform: "linux/amd64"},
	} {
		token := p.Augment(t, r).ContainerToken
		if same, ok := seen[token]; ok {
			t.Errorf("another %s has the name of %s", what, same)
		}
		seen[token] = what
	}
}

// TestPinnedByDigest: a base image named by digest gives an augmented image named
// by digest.
func TestPinnedByDigest(t *testing.T) {
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	pinned := "busybox@" + digests["busybox:multi"].String()
	for _, image := range []string{pinned, "docker.io/library/busybox:multi@" + digests["busybox:multi"].String()} {
		a := p.Augment(t, harness.Request{ContainerImage: image, ContainerConfig: harness.Greeter(t)})
		if want := p.Host + "/wt/" + a.ContainerToken + "/library/busybox@" + a.TargetDigest; a.TargetImage != want {
			t.Errorf("image name %s, want %s", a.TargetImage, want)
		}
		if got := harness.Verify(t, a.TargetImage); got != a.TargetDigest {
			t.Errorf("pulled %s, want %s", got, a.TargetDigest)
		}
		// The base digest itself names other bytes, which are refused with a hint.
		status, body := harness.Get(t, p.URL+"/v2/wt/"+a.ContainerToken+"/library/busybox/manifests/"+a.SourceDigest)
		if status != http.StatusForbidden || !strings.Contains(body, "DENIED") || !strings.Contains(body, a.TargetDigest) {
			t.Errorf("base digest: %d %s", status, body)
		}
	}
}

// TestNothingToAdd: without a recipe the image is the upstream's. It includes the
// attestations, which the submission did not read.
func TestNothingToAdd(t *testing.T) {
	reg := upstream.Registry(t)
	digests := upstream.Push(t, reg.Host, "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:multi", ContainerConfig: &harness.Config{}, ContainerPlatform: "linux/amd64"})
	if a.TargetDigest != digests["busybox:multi"].String() || a.TargetDigest != a.SourceDigest {
		t.Fatalf("digest %s, want the base's %s", a.TargetDigest, digests["busybox:multi"])
	}
	index, err := remote.Index(harness.MustRef(t, a.TargetImage))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range manifest.Manifests {
		img, err := index.Image(entry.Digest)
		if err != nil {
			t.Fatalf("%v: %v", entry.Platform, err)
		}
		layers, err := img.Layers()
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range layers {
			blob, err := l.Compressed()
			if err != nil {
				t.Errorf("%v: %v", entry.Platform, err)
				continue
			}
			if _, err := io.Copy(io.Discard, blob); err != nil {
				t.Errorf("%v: %v", entry.Platform, err)
			}
			blob.Close()
		}
	}
}
