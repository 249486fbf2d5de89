package assemble

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/upstream"
	"github.com/waveproxy/waveproxy/upstream/upstreamtest"
)

// TestRedirectedLayersArePrivate: a URL that leads to a repository gives its layer
// to identities that may read the repository, whichever identity fetched it first and
// whichever fetches it now.
func TestRedirectedLayersArePrivate(t *testing.T) {
	reg, files := upstreamtest.New(t), upstreamtest.New(t)
	data, want := archive(t, "secret")
	reg.PutBlob("team-a/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: data})
	files.Answer(http.RedirectHandler(reg.URL+upstreamtest.BlobPath("team-a/app", want.Digest), http.StatusFound).ServeHTTP)
	denied := errors.New("not for bob")
	client, err := upstream.New(upstream.Options{
		Wait:       new(upstreamtest.Pauses).Wait,
		Registries: map[string]upstream.Registry{reg.Host(): {PlainHTTP: true}, files.Host(): {PlainHTTP: true, Files: true}},
		Permit: func(target auth.Target) error {
			if target.Identity == "bob" && strings.HasPrefix(target.Repository, "team-a/") {
				return denied
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	store := blobstore.NewMem()
	l := NewLayers(store, store, client, t.TempDir(), maxLayer)
	take := func(identity string) (augment.Layer, error) {
		return l.Remote(upstream.As(t.Context(), identity), files.URL+"/tools.tar.gz?signature=1", want)
	}
	wantDenied := func(when string) {
		t.Helper()
		if _, err := take("bob"); err == nil || !strings.Contains(err.Error(), denied.Error()) {
			t.Errorf("BREACH: bob got the layer %s: %v", when, err)
		}
	}
	wantDenied("first")
	layer, err := take("ann")
	if err != nil {
		t.Fatal(err)
	}
	if to := reg.URL + upstreamtest.BlobPath("team-a/app", want.Digest); len(layer.Via) != 1 || layer.Via[0] != to {
		t.Errorf("the layer is from %q, want %q", layer.Via, to)
	}
	wantDenied("after ann")
	reg.TakeRequests()
	if again, err := take("ann"); err != nil || len(again.Via) != 1 || len(reg.TakeRequests()) != 0 {
		t.Errorf("ann, the second time: %+v, %v", again, err)
	}

	if err := store.PutRecord(t.Context(), layerRecord(files.URL+"/tools.tar.gz?signature=1", want.Digest), []byte("damaged")); err != nil {
		t.Fatal(err)
	}
	begun, release := make(chan struct{}), make(chan struct{})
	reg.AnswerAt(upstreamtest.BlobPath("team-a/app", want.Digest), func(w http.ResponseWriter, _ *http.Request) {
		close(begun)
		<-release
		_, _ = w.Write(data)
	})
	ended := make(chan error)
	go func() {
		_, err := take("ann")
		ended <- err
	}()
	<-begun
	denials := make(chan error)
	go func() {
		_, err := take("bob")
		denials <- err
	}()
	if err := <-denials; err == nil || !strings.Contains(err.Error(), denied.Error()) {
		t.Errorf("BREACH: bob got the layer while ann fetches it: %v", err)
	}
	close(release)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestOldLayerRecords: a record that does not say where redirects led is no record for a
// caller: the layer is fetched once more. The administrator's own URLs are not fetched
// again.
func TestOldLayerRecords(t *testing.T) {
	reg, files := upstreamtest.New(t), upstreamtest.New(t)
	data, want := archive(t, "secret")
	reg.PutBlob("team-a/app", upstreamtest.Object{MediaType: ocispec.MediaTypeImageLayerGzip, Data: data})
	files.Answer(http.RedirectHandler(reg.URL+upstreamtest.BlobPath("team-a/app", want.Digest), http.StatusFound).ServeHTTP)
	denied := errors.New("not for bob")
	client, err := upstream.New(upstream.Options{
		Wait:       new(upstreamtest.Pauses).Wait,
		Registries: map[string]upstream.Registry{reg.Host(): {PlainHTTP: true}, files.Host(): {PlainHTTP: true, Files: true}},
		Permit: func(target auth.Target) error {
			if target.Identity == "bob" && strings.HasPrefix(target.Repository, "team-a/") {
				return denied
			}
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseIdleConnections)
	store := blobstore.NewMem()
	l := NewLayers(store, store, client, t.TempDir(), maxLayer)
	url := files.URL + "/tools.tar.gz"
	layer, err := l.Remote(t.Context(), url, want)
	if err != nil {
		t.Fatal(err)
	}
	layer.Via = nil
	old, err := json.Marshal(layer) // as older versions wrote it
	if err == nil {
		err = store.PutRecord(t.Context(), layerRecord(url, want.Digest), old)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.Remote(upstream.As(t.Context(), "bob"), url, want); err == nil || !strings.Contains(err.Error(), denied.Error()) {
		t.Errorf("BREACH: bob got the layer of an old record: %v", err)
	}
	reg.TakeRequests()
	if _, err := l.Remote(t.Context(), url, want); err != nil || len(reg.TakeRequests()) != 0 {
		t.Errorf("the administrator's own URL: %v", err)
	}
	for range 2 {
		if again, err := l.Remote(upstream.As(t.Context(), "ann"), url, want); err != nil || len(again.Via) != 1 {
			t.Errorf("ann: %+v, %v", again, err)
		}
	}
	if n := len(reg.TakeRequests()); n != 1 {
		t.Errorf("%d requests for a layer that is fetched once more", n)
	}
}
