package registry

import (
	"net/http"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestLate: the manifests of an index to which nothing was added are read when they,
// or blobs that may be theirs, are asked for, and only once.
func TestLate(t *testing.T) {
	net := newNetwork(t)
	pushed := net.PushIndex(t, "library/app", "1", "one", "amd64", "arm64")
	amd64, arm64 := pushed.Images[0], pushed.Images[1]
	repo := net.client.Repository(auth.Target{Registry: "docker.io", Repository: "library/app"})
	l := newLate()
	for _, o := range []upstreamtest.Object{amd64.Manifest, arm64.Manifest} {
		l.unread[o.Digest()] = o.Descriptor()
	}
	if _, ok, err := l.manifest(t.Context(), net.store, repo, digest.FromString("unknown")); ok || err != nil {
		t.Errorf("a digest that is not in the index: %v, %v", ok, err)
	}
	net.WantAnyOrder(t)
	net.Answer(upstreamtest.Status(http.StatusServiceUnavailable))
	if _, ok, err := l.manifest(t.Context(), net.store, repo, amd64.Manifest.Digest()); ok || err == nil {
		t.Errorf("a manifest that the upstream cannot give: %v, %v", ok, err)
	}
	net.Answer(nil)
	net.TakeRequests()
	for range 2 {
		desc, ok, err := l.manifest(t.Context(), net.store, repo, amd64.Manifest.Digest())
		if err != nil || !ok || desc.Size != int64(len(amd64.Manifest.Data)) {
			t.Errorf("got %+v, %v, %v", desc, ok, err)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+amd64.Manifest.Digest().String())
	if f, err := net.store.Open(t.Context(), amd64.Manifest.Digest()); err != nil {
		t.Errorf("the manifest is not in the store: %v", err)
	} else {
		f.Close()
	}
	if _, ok := l.blob(arm64.Layer.Digest()); ok {
		t.Error("a blob of a manifest that was not read is known")
	}
	for range 2 {
		if err := l.readFor(t.Context(), net.store, repo, arm64.Layer.Digest()); err != nil {
			t.Error(err)
		}
	}
	for _, o := range []upstreamtest.Object{amd64.Layer, amd64.Config, arm64.Layer, arm64.Config} {
		if desc, ok := l.blob(o.Digest()); !ok || desc.Size != int64(len(o.Data)) {
			t.Errorf("blob %s: %+v, %v", o.MediaType, desc, ok)
		}
	}
	net.WantAnyOrder(t, "GET "+appManifests+arm64.Manifest.Digest().String())
}

// TestLateBound: an unknown digest does not make an index of many entries be read.
func TestLateBound(t *testing.T) {
	net := newNetwork(t)
	o := net.PushIndex(t, "library/app", "1", "one", "amd64").Images[0].Manifest
	l := newLate()
	for i := range maxUnread + 1 {
		desc := o.Descriptor()
		desc.Digest = digest.FromString(string(rune('a' + i)))
		l.unread[desc.Digest] = desc
	}
	repo := net.client.Repository(auth.Target{Registry: "docker.io", Repository: "library/app"})
	if err := l.readFor(t.Context(), net.store, repo, digest.FromString("unknown")); err != nil {
		t.Error(err)
	}
	net.WantAnyOrder(t)
}
