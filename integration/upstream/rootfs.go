package upstream

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/opencontainers/go-digest"
)

// entry is one member of a layer archive.
type entry struct {
	tar.Header
	body []byte
}

func dir(name string, mode int64) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeDir, Name: name + "/", Mode: mode}}
}

func file(name string, mode int64, body []byte) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}, body: body}
}

func symlink(name, target string) entry {
	return entry{Header: tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}}
}

// busybox is the program in every image.
type busybox struct {
	program []byte
	applets []string // without busybox itself
}

// findBusybox reads the installed busybox. It must be static, because images hold
// no C library.
func findBusybox() (*busybox, error) {
	const path = "/bin/busybox"
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("%w (install busybox-static)", err)
	}
	f, err := elf.NewFile(bytes.NewReader(program))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	dynamic := func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP }
	if slices.ContainsFunc(f.Progs, dynamic) {
		return nil, fmt.Errorf("%s is dynamically linked (install busybox-static)", path)
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("list applets of %s: %w", path, err)
	}
	applets := slices.DeleteFunc(strings.Fields(string(list)), func(a string) bool { return a == "busybox" })
	return &busybox{program: program, applets: applets}, nil
}

// rootfs is the bottom layer of an image whose programs are in bin.
func (b *busybox) rootfs(arch, bin string) []entry {
	entries := []entry{
		dir(bin, 0o755),
		file(bin+"/busybox", 0o755, b.program),
		dir("dev", 0o755),
		dir("etc", 0o755),
		file("etc/group", 0o644, []byte("root:x:0:\n")),
		file("etc/image-arch", 0o644, []byte(arch+"\n")),
		file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\n")),
		dir("proc", 0o755),
		dir("root", 0o700),
		dir("srv", 0o755),
		dir("sys", 0o755),
		dir("tmp", 0o1777),
	}
	for _, applet := range b.applets {
		entries = append(entries, symlink(bin+"/"+applet, "busybox"))
	}
	return entries
}

// mergedRootfs is laid out like the bottom layer of Debian, Ubuntu and Fedora,
// whose /bin, /lib, /lib64 and /sbin are symlinks into /usr.
func (b *busybox) mergedRootfs(arch string) []entry {
	merged := []entry{dir("usr", 0o755)}
	for _, name := range []string{"bin", "lib", "lib64", "sbin"} {
		merged = append(merged, symlink(name, "usr/"+name))
		if name != "bin" {
			merged = append(merged, dir("usr/"+name, 0o755))
		}
	}
	return append(merged, b.rootfs(arch, "usr/bin")...)
}

// layer is a compressed archive.
type layer struct {
	blob   []byte
	diffID digest.Digest
	zstd   bool // else gzip
}

func gzipLayer(entries []entry) (layer, error) {
	archive, err := pack(entries)
	if err != nil {
		return layer{}, err
	}
	var blob bytes.Buffer
	z := gzip.NewWriter(&blob)
	_, err = z.Write(archive)
	err = errors.Join(err, z.Close())
	return layer{blob: blob.Bytes(), diffID: digest.FromBytes(archive)}, err
}

func zstdLayer(entries []entry) (layer, error) {
	archive, err := pack(entries)
	if err != nil {
		return layer{}, err
	}
	// More workers would make the result depend on the number of processors.
	z, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return layer{}, err
	}
	defer z.Close()
	return layer{blob: z.EncodeAll(archive, nil), diffID: digest.FromBytes(archive), zstd: true}, nil
}

// pack writes a tar sorted by name: parents come before their children, and a
// merged /usr after the symlinks to it, as in Debian's own archives.
func pack(entries []entry) ([]byte, error) {
	entries = slices.Clone(entries)
	slices.SortFunc(entries, func(a, b entry) int { return strings.Compare(a.Name, b.Name) })
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		e.ModTime, e.Format = time.Unix(0, 0), tar.FormatPAX
		if err := w.WriteHeader(&e.Header); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.Name, err)
		}
		if _, err := w.Write(e.body); err != nil {
			return nil, fmt.Errorf("pack %s: %w", e.Name, err)
		}
	}
	err := w.Close()
	return archive.Bytes(), err
}
