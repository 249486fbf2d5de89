package augment

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

// UsrMergeRoots are the directories that distributions with a merged /usr
// (Debian 12, Fedora, Arch) have as symbolic links. If a layer has entries under
// one of them, the overlay file system puts a directory in the link's place, and
// everything the link led to disappears: /bin/sh and the dynamic loader are gone
// and nothing in the image runs any more.
var UsrMergeRoots = []string{"bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr/sbin", "usr/lib64"}

// usrMergeLimit bounds how much of a base layer is unpacked in search of the
// links. They stand in the first kilobytes of most images; a base layer that
// shows none in this many bytes is taken to have real directories.
const usrMergeLimit = 256 << 20

const (
	// usrMergeFruitless is by how many bytes the packed stream may exceed its
	// unpacked size, because a stream can unpack to nothing for ever.
	usrMergeFruitless = 16 << 20
	// usrMergeWindow is the largest window that zstd uses up to level 20, in bytes.
	usrMergeWindow = 32 << 20
)

// fruitless stops a stream whose unpacked size stays below its packed size; such
// a stream could run for ever.
type fruitless struct {
	r     io.Reader
	ahead int64 // packed bytes read, less the bytes that they unpacked to
	ended bool
}

func (f *fruitless) Read(p []byte) (int, error) {
	if f.ahead > usrMergeFruitless {
		f.ended = true
		return 0, io.EOF
	}
	n, err := f.r.Read(p)
	f.ahead += int64(n)
	return n, err
}

// unpacked credits the bytes that a stream unpacks to.
type unpacked struct {
	io.Reader
	from *fruitless
}

func (u unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	u.from.ahead -= int64(n)
	return n, err
}

// usrMergeRoot returns the root that an injected entry stands under, or "".
// An entry that replaces a link by a link or a file stays as its author meant it.
func usrMergeRoot(h *tar.Header) string {
	name := cleanName(h.Name)
	for _, root := range UsrMergeRoots {
		if strings.HasPrefix(name, root+"/") || (name == root && h.Typeflag == tar.TypeDir) {
			return root
		}
	}
	return ""
}

// readLinks returns which of the wanted roots are symbolic links in a base image's
// bottom layer, with their targets relative to the root directory. A link to
// another root (sbin -> usr/sbin -> bin on Fedora) is followed. It reads the layer
// no further than it needs.
func readLinks(ctx context.Context, r io.Reader, want []string) (map[string]string, error) {
	turn := unpack.New(ctx)
	src := &source{ctx: ctx, r: turn.Outside(r)}
	packed := &fruitless{r: src}
	// No ratio: usrMergeLimit is small, and the layer may be of any kind.
	in, _, err := decompress(turn, bufio.NewReaderSize(packed, 64<<10), usrMergeWindow, nil)
	if err != nil {
		return nil, baseLayerError(src, err)
	}
	defer in.Close()
	limited := &io.LimitedReader{R: unpacked{in, packed}, N: usrMergeLimit}
	targets := map[string]string{} // "" means a real directory
	open := slices.Clone(want)
	settle := func(root, target string) {
		if _, known := targets[root]; known {
			return
		}
		targets[root] = target
		open = slices.DeleteFunc(open, func(s string) bool { return s == root })
		if _, known := targets[target]; !known && slices.Contains(UsrMergeRoots, target) {
			open = append(open, target)
		}
	}
	entries := tar.NewReader(limited)
	for len(open) > 0 {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) || (err != nil && (limited.N <= 0 || packed.ended)) {
			break
		}
		if err != nil {
			return nil, baseLayerError(src, err)
		}
		name := cleanName(h.Name)
		for _, root := range UsrMergeRoots {
			switch {
			case name == root && h.Typeflag == tar.TypeSymlink && len(h.Linkname) <= maxName: // what is kept is bounded
				settle(root, linkTarget(root, h.Linkname))
			case name == root, strings.HasPrefix(name, root+"/"):
				settle(root, "")
			}
		}
	}
	return followLinks(want, targets), nil
}

func baseLayerError(src *source, err error) error {
	if src.err != nil {
		return fmt.Errorf("read the base image's first layer: %w", src.err)
	}
	return asRefusal("the base image's first layer", err)
}

// linkTarget returns a link's target, resolved against the link's directory.
func linkTarget(name, text string) string {
	if !strings.HasPrefix(text, "/") {
		text = path.Join("/", path.Dir(name), text)
	}
	return strings.TrimPrefix(path.Clean(text), "/")
}

// followLinks returns the wanted roots that are links, with their final targets.
func followLinks(want []string, targets map[string]string) map[string]string {
	links := map[string]string{}
	for _, root := range want {
		target := targets[root]
		for range UsrMergeRoots { // a bound: links may go in circles
			next := targets[target]
			if next == "" {
				break
			}
			target = next
		}
		if target != "" && target != root {
			links[root] = target
		}
	}
	return links
}
