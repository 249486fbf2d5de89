package layerindex

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"io"
	"maps"

	"github.com/waveproxy/waveproxy/internal/unpack"
)

// MaxFile is the size of the largest file that Files returns, in bytes.
const MaxFile = 4 << 20

// File is a regular file of a layer.
type File struct {
	Mode     int64
	UID, GID int
	Xattrs   map[string]string
	ModTime  int64 // in nanoseconds since 1970
	Data     []byte
	// Link is the clean name of the entry of the same layer that is the file, if this is
	// a hard link. Nothing else is set then.
	Link string
}

// Files reads a layer to its end, as Read does, and returns its regular files and hard
// links of these clean names. What is not there, or something else, is missing from the
// result. Memory and errors are as with Read; the files are at most MaxFile each.
func Files(ctx context.Context, r io.Reader, names []string) (map[string]File, error) {
	turn := unpack.New(ctx)
	src := turn.Outside(r)
	in := bufio.NewReaderSize(src, 64<<10)
	files, err := readFiles(turn, in, names)
	if err == nil {
		_, err = io.Copy(io.Discard, in)
	}
	if err != nil {
		return nil, explain(src, err)
	}
	return files, nil
}

func readFiles(turn *unpack.Turn, in *bufio.Reader, names []string) (map[string]File, error) {
	out, err := decompress(turn, in)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	wanted := make(map[string]bool, len(names))
	for _, name := range names {
		wanted[name] = true
	}
	found := map[string]File{}
	held := map[string]func(){}
	defer func() {
		for release := range maps.Values(held) {
			release()
		}
	}()
	entries := tar.NewReader(out)
	headers := turn.Headers()
	defer headers.Release()
	for {
		h, err := entries.Next()
		if errors.Is(err, io.EOF) {
			return found, nil
		}
		if err != nil {
			return nil, err
		}
		if err := headers.Hold(h); err != nil {
			return nil, err
		}
		name := Clean(h.Name)
		if !wanted[name] || h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		delete(found, name) // the last one counts
		if release := held[name]; release != nil {
			release()
			delete(held, name)
		}
		switch h.Typeflag {
		case tar.TypeLink:
			found[name] = File{Link: Clean(h.Linkname)}
		case tar.TypeReg:
			if h.Size > MaxFile {
				return nil, errorf("has %.200q with %d bytes; of this file at most %d are read", name, h.Size, MaxFile)
			}
			release, err := turn.Hold(h.Size)
			if err != nil {
				return nil, err
			}
			held[name] = release
			f := File{Mode: h.Mode, UID: h.Uid, GID: h.Gid, ModTime: h.ModTime.UnixNano(), Data: make([]byte, h.Size)}
			if _, err := io.ReadFull(entries, f.Data); err != nil {
				return nil, err
			}
			a := attributesOf(h)
			for i := 0; i+1 < len(a.xattrs); i += 2 {
				if f.Xattrs == nil {
					f.Xattrs = map[string]string{}
				}
				f.Xattrs[a.xattrs[i]] = a.xattrs[i+1]
			}
			found[name] = f
		}
	}
}
