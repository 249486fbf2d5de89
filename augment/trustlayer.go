package augment

import (
	"archive/tar"
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/klauspost/compress/gzip"

	"github.com/waveproxy/waveproxy/layerindex"
	"github.com/waveproxy/waveproxy/rootfs"
)

// hashedCertificates is where OpenSSL looks for a certificate by its hash.
const hashedCertificates = "etc/ssl/certs"

// maxSameHash bounds the certificates of one hash. OpenSSL tries them all.
const maxSameHash = 100

// anchors are the directories from which an image's own tool makes its bundles anew: the
// first one counts whose tool the image has.
var anchors = []struct{ tool, dir, suffix string }{
	{"etc/pki/ca-trust", "etc/pki/ca-trust/source/anchors", ".pem"},                          // Red Hat
	{"etc/pki/trust", "etc/pki/trust/anchors", ".pem"},                                       // SUSE
	{"etc/ca-certificates/trust-source", "etc/ca-certificates/trust-source/anchors", ".crt"}, // Arch
	{"", "usr/local/share/ca-certificates", ".crt"},
}

// addition is an entry of the layer.
type addition struct {
	file layerindex.File
	link string // the target of a symbolic link; then there is no file
}

// addAnchors puts each certificate where the image's own tool finds it, and where OpenSSL
// looks for it by its hash.
func (t *trusting) addAnchors() error {
	anchor := anchors[len(anchors)-1]
	for _, a := range anchors {
		if _, node, _ := t.stack.Find(cmp.Or(a.tool, ".")); node.Kind == rootfs.Dir {
			anchor = a
			break
		}
	}
	hashed, node, _ := t.stack.Find(hashedCertificates)
	_, made := t.files[debianBundle]
	if made && node.Kind == rootfs.Absent {
		hashed = hashedCertificates
	}
	for _, c := range t.certificates {
		at := anchor.dir + "/" + c.Name + anchor.suffix
		t.files[at] = addition{file: layerindex.File{Mode: 0o644, Data: c.PEM()}}
		file := path.Join(hashed, c.Name+".pem")
		if node.Kind != rootfs.Dir && !made || t.stack.Lookup(file).Kind != rootfs.Absent {
			continue // nothing looks there, or it was added before
		}
		hash, err := c.Hash()
		if err != nil {
			return Errorf("recipe: %v", err)
		}
		t.files[file] = addition{link: "/" + at}
		for n := range maxSameHash {
			name := path.Join(hashed, fmt.Sprintf("%s.%d", hash, n))
			if _, taken := t.files[name]; !taken && t.stack.Lookup(name).Kind == rootfs.Absent {
				t.files[name] = addition{link: c.Name + ".pem"}
				break
			}
		}
	}
	return nil
}

// put stores the layer.
func (t *trusting) put(ctx context.Context) (Layer, error) {
	return putArchive(ctx, t.Archives, func(_ context.Context, compressed, plain io.Writer) error {
		z := gzip.NewWriter(compressed)
		out := tar.NewWriter(io.MultiWriter(z, plain))
		for _, name := range slices.Sorted(maps.Keys(t.files)) {
			if err := t.files[name].write(out, name); err != nil {
				return fmt.Errorf("write certificates: %w", err)
			}
		}
		if err := out.Close(); err != nil {
			return fmt.Errorf("write certificates: %w", err)
		}
		return z.Close()
	})
}

func (a addition) write(out *tar.Writer, name string) error {
	if a.link != "" {
		return out.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: a.link, Mode: 0o777})
	}
	f := a.file
	h := &tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: int64(len(f.Data)), Mode: f.Mode & 0o7777, Uid: f.UID, Gid: f.GID,
		ModTime: time.Unix(f.ModTime/int64(time.Second), 0),
	}
	for key, value := range f.Xattrs {
		if h.PAXRecords == nil {
			h.PAXRecords = map[string]string{}
		}
		h.PAXRecords["SCHILY.xattr."+key] = value
	}
	if err := out.WriteHeader(h); err != nil {
		return err
	}
	_, err := out.Write(f.Data)
	return err
}
