package registry

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// likeDigest is another digest that begins like d.
func likeDigest(d digest.Digest, n int) digest.Digest {
	return digest.NewDigestFromEncoded(digest.SHA256, d.Encoded()[:16]+fmt.Sprintf("%048x", n))
}

// TestSamePrefix: of many images with a digest that begins alike few are looked at. The image
// whose root it is, is the first one, wherever it is in the index.
func TestSamePrefix(t *testing.T) {
	const images = 3000
	for name, shared := range map[string]func(m *manyImages) digest.Digest{
		"a blob that all have":   func(*manyImages) digest.Digest { return ocispec.DescriptorEmptyJSON.Digest },
		"the first image's root": func(m *manyImages) digest.Digest { return m.root(0) },
		"a root in the middle":   func(m *manyImages) digest.Digest { return m.root(images / 2) },
		"the last image's root":  func(m *manyImages) digest.Digest { return m.root(images - 1) },
		"the end of the index": func(*manyImages) digest.Digest {
			return digest.Digest("sha256:ffffffffffffffff" + fmt.Sprintf("%048x", 1))
		},
		"the beginning of it, too": func(*manyImages) digest.Digest {
			return digest.Digest("sha256:0000000000000000" + fmt.Sprintf("%048x", 1))
		},
	} {
		m, x := newManyImages(images)
		d := shared(m)
		prefix, _ := prefixOf(d)
		for i, record := range m.names {
			if record != "sha256-"+d.Encoded() {
				m.indexes["group/images/"+m.names[i]] = binary.BigEndian.AppendUint64(m.indexes["group/images/"+m.names[i]], prefix)
			}
		}
		for _, chunk := range []int{recordsAtATime, 700} {
			x.chunk = chunk
			x.groups.Purge()
			roots, err := x.find(t.Context(), manyGroup, likeDigest(d, 7))
			if err != nil || len(roots) != maxMatches {
				t.Fatalf("%s: %d images are looked at, %v", name, len(roots), err)
			}
			if slices.Sort(roots); len(slices.Compact(roots)) != maxMatches {
				t.Errorf("%s: an image is looked at twice", name)
			}
			if roots, err = x.find(t.Context(), manyGroup, d); err != nil || slices.Contains(m.names, "sha256-"+d.Encoded()) && roots[0] != d {
				t.Errorf("%s: the image is not found: %v", name, err)
			}
			m.find(t, x, m.root(5), m.root(5))
			if n := x.get("group").at(prefix); len(n) != images {
				t.Errorf("%s: %d entries, want %d", name, len(n), images)
			}
		}
	}
}

// TestFewMisses: a digest that begins like one that all images of a repository have costs as
// little as any unknown digest, and that one is served.
func TestFewMisses(t *testing.T) {
	net := newNetwork(t)
	const images = 3 * maxMisses
	first := net.start()
	for i := range images {
		net.PushIndex(t, "library/app", fmt.Sprint(i), fmt.Sprint("text", i), "amd64")
		first.get(toolsApp + fmt.Sprint(i))
	}
	shared := ocispec.DescriptorEmptyJSON.Digest
	for _, unknown := range []digest.Digest{likeDigest(shared, 1), likeDigest(shared, 2), likeDigest(net.layer.Digest, 3)} {
		s := net.start() // with nothing in memory
		net.records.gets = 0
		if a := s.do("GET", "tools/library/app/blobs/"+unknown.String()); a.status != 404 {
			t.Errorf("status %d", a.status)
		}
		if net.records.gets > maxMisses+2 {
			t.Errorf("%d records of %d images were read for %s", net.records.gets, images, unknown)
		}
	}
	for _, known := range []digest.Digest{shared, net.layer.Digest} {
		if a := net.start().do("GET", "tools/library/app/blobs/"+known.String()); a.status != 200 {
			t.Errorf("%s: status %d", known, a.status)
		}
	}
}
