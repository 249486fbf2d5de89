package upstream

import (
	"archive/tar"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/opencontainers/go-digest"
)

func fetch(t *testing.T, s *Server, tag string) *remote.Descriptor {
	t.Helper()
	ref, err := name.ParseReference(s.Host + "/library/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	d, err := remote.Get(ref, remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func TestPushAll(t *testing.T) {
	s := Registry(t)
	pushed := PushAll(t, s.Host)
	tests := []struct {
		tag       string
		mediaType types.MediaType
		layers    int
		platforms []string // set for an index
	}{
		{tag: "busybox:docker", mediaType: docker.manifest, layers: 1},
		{tag: "busybox:oci", mediaType: oci.manifest, layers: 1},
		{tag: "busybox:docker-multi", mediaType: docker.index, layers: 1, platforms: []string{"linux/amd64", "linux/arm64"}},
		{tag: "busybox:multi", mediaType: oci.index, layers: 1,
			platforms: []string{"linux/amd64", "linux/arm64", "unknown/unknown", "unknown/unknown"}},
		{tag: "busybox:zstd", mediaType: oci.index, layers: 1, platforms: []string{"linux/amd64", "linux/arm64"}},
		{tag: "busybox:layers60", mediaType: docker.manifest, layers: 60},
		{tag: "busybox:layers124", mediaType: docker.manifest, layers: 124},
		{tag: "busybox:layers126", mediaType: docker.manifest, layers: 126},
		{tag: "busybox:nohistory", mediaType: oci.manifest, layers: 1},
		{tag: "busybox:entry", mediaType: docker.manifest, layers: 1},
		{tag: "usrmerge:latest", mediaType: oci.manifest, layers: 2},
	}
	for _, test := range tests {
		t.Run(test.tag, func(t *testing.T) {
			d := fetch(t, s, test.tag)
			if d.MediaType != test.mediaType || d.Digest.String() != pushed[test.tag].String() {
				t.Errorf("got %s %s, want %s %s", d.MediaType, d.Digest, test.mediaType, pushed[test.tag])
			}
			if test.platforms != nil {
				checkIndex(t, d, test.platforms, test.layers)
				return
			}
			image, err := d.Image()
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, image, "amd64", test.layers)
		})
	}
	if len(pushed) != len(tests)+1 {
		t.Errorf("PushAll made %d images, of which %d are tested here, besides schema1", len(pushed), len(tests))
	}
	again := PushAll(t, s.Host)
	if diff := cmp.Diff(pushed, again); diff != "" {
		t.Errorf("a second push made other images:\n%s", diff)
	}
}

func checkIndex(t *testing.T, d *remote.Descriptor, platforms []string, layers int) {
	t.Helper()
	index, err := d.ImageIndex()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	images := map[string]bool{}
	for _, entry := range manifest.Manifests {
		got = append(got, entry.Platform.String())
		if entry.Platform.OS != "unknown" {
			images[entry.Digest.String()] = true
			image, err := index.Image(entry.Digest)
			if err != nil {
				t.Fatal(err)
			}
			checkImage(t, image, entry.Platform.Architecture, layers)
		} else if !images[entry.Annotations["vnd.docker.reference.digest"]] {
			t.Errorf("attestation %s is about none of the images", entry.Digest)
		}
	}
	if diff := cmp.Diff(platforms, got); diff != "" {
		t.Errorf("platforms (-want +got):\n%s", diff)
	}
}

// checkImage reads every blob: go-containerregistry compares it with its digest,
// this function with its diff ID.
func checkImage(t *testing.T, image v1.Image, arch string, layers int) {
	t.Helper()
	config, err := image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	got, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || len(got) != layers || len(config.RootFS.DiffIDs) != layers {
		t.Fatalf("%s image with %d layers, %d diff IDs; want %s, %d",
			config.Architecture, len(got), len(config.RootFS.DiffIDs), arch, layers)
	}
	if want := layers + 1; config.History != nil && len(config.History) != want {
		t.Errorf("%d history entries, want %d", len(config.History), want)
	}
	for i, l := range got {
		archive, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		diffID, _, err := v1.SHA256(archive)
		archive.Close()
		if err != nil || diffID != config.RootFS.DiffIDs[i] {
			t.Errorf("layer %d: diff ID %s, want %s (%v)", i, diffID, config.RootFS.DiffIDs[i], err)
		}
	}
}

func TestNohistoryLacksOptionalMembers(t *testing.T) {
	s := Registry(t)
	Push(t, s.Host, "busybox:nohistory")
	image, err := fetch(t, s, "busybox:nohistory").Image()
	if err != nil {
		t.Fatal(err)
	}
	config, err := image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	for _, member := range []string{`"config"`, `"history"`} {
		if strings.Contains(string(config), member) {
			t.Errorf("config has %s:\n%s", member, config)
		}
	}
}

func TestUsrmergeSymlinksComeFirst(t *testing.T) {
	s := Registry(t)
	Push(t, s.Host, "usrmerge:latest")
	image, err := fetch(t, s, "usrmerge:latest").Image()
	if err != nil {
		t.Fatal(err)
	}
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	archive, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer archive.Close()
	links := map[string]string{}
	for r := tar.NewReader(archive); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(h.Name, "usr/") {
			break
		}
		if h.Typeflag == tar.TypeSymlink {
			links[h.Name] = h.Linkname
		}
	}
	want := map[string]string{"bin": "usr/bin", "lib": "usr/lib", "lib64": "usr/lib64", "sbin": "usr/sbin"}
	if diff := cmp.Diff(want, links); diff != "" {
		t.Errorf("symlinks before usr/ (-want +got):\n%s", diff)
	}
}

func TestSchema1(t *testing.T) {
	s := Registry(t)
	_, want := schema1()
	for _, ref := range []string{"latest", want.String()} {
		response, err := http.Get(s.URL + schema1Path + ref)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		if got := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || got != schema1Type {
			t.Errorf("%s: %s, %s", ref, response.Status, got)
		}
		if got := response.Header.Get("Docker-Content-Digest"); got != want.String() || digest.FromBytes(body) == want {
			t.Errorf("%s: digest %s, want %s, not that of the body", ref, got, want)
		}
	}
	response, err := http.Get(s.URL + schema1Path + "missing")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	if response.StatusCode != http.StatusNotFound {
		t.Errorf("missing tag: %s", response.Status)
	}
}

func TestRequests(t *testing.T) {
	s := Registry(t)
	Push(t, s.Host, "busybox:oci")
	s.Reset()
	fetch(t, s, "busybox:oci")
	want := []string{"GET /v2/", "GET /v2/library/busybox/manifests/oci"}
	if diff := cmp.Diff(want, s.Requests()); diff != "" {
		t.Errorf("requests (-want +got):\n%s", diff)
	}
	s.Reset()
	if got := s.Requests(); len(got) != 0 {
		t.Errorf("requests after Reset: %q", got)
	}
}
