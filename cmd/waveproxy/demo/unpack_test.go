package demo

import (
	"archive/tar"
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func archive(t *testing.T, entries ...tar.Header) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, h := range entries {
		body := ""
		if h.Typeflag == 0 {
			h.Typeflag, body = tar.TypeReg, h.Name
		}
		h.Size = int64(len(body))
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// tree describes the files in dir, one a line.
func tree(t *testing.T, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String() + " " + strings.TrimPrefix(path, dir+"/")
		if target, err := os.Readlink(path); err == nil {
			line += " -> " + target
		} else if body, err := os.ReadFile(path); err == nil {
			line += " = " + string(body)
		}
		lines = append(lines, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func TestUnpack(t *testing.T) {
	const directory, symlink, hardlink = tar.TypeDir, tar.TypeSymlink, tar.TypeLink
	base := []tar.Header{
		{Name: "./", Typeflag: directory, Mode: 0o755},
		{Name: "./etc/", Typeflag: directory, Mode: 0o755},
		{Name: "./etc/a"},
		{Name: "./etc/b", Mode: 0o600},
		{Name: "bin", Typeflag: symlink, Linkname: "usr/bin"},
		{Name: "usr/", Typeflag: directory, Mode: 0o755},
		{Name: "usr/bin/", Typeflag: directory, Mode: 0o755},
		{Name: "usr/bin/sh", Mode: 0o755},
		{Name: "usr/bin/ash", Typeflag: hardlink, Linkname: "usr/bin/sh"},
	}
	tests := []struct {
		name  string
		upper []tar.Header
		files []string
		want  []string
	}{
		{"nothing", nil, nil, []string{
			"Lrwxrwxrwx bin -> usr/bin", "drwxr-xr-x etc", "-rw-r--r-- etc/a = ./etc/a", "-rw------- etc/b = ./etc/b",
			"drwxr-xr-x usr", "drwxr-xr-x usr/bin", "-rwxr-xr-x usr/bin/ash = usr/bin/sh", "-rwxr-xr-x usr/bin/sh = usr/bin/sh",
		}},
		{"replace", []tar.Header{{Name: "etc", Typeflag: symlink, Linkname: "usr"}, {Name: "usr/bin/sh", Mode: 0o700}, {Name: "bin/new"}},
			[]string{"etc", "usr/bin/sh", "bin/new"}, []string{
				"Lrwxrwxrwx bin -> usr/bin", "Lrwxrwxrwx etc -> usr", "drwxr-xr-x usr", "drwxr-xr-x usr/bin",
				"-rwxr-xr-x usr/bin/ash = usr/bin/sh", "-rw-r--r-- usr/bin/new = bin/new", "-rwx------ usr/bin/sh = usr/bin/sh",
			}},
		{"file to directory", []tar.Header{{Name: "bin/", Typeflag: directory, Mode: 0o500}, {Name: "bin/x"}, {Name: ".wh.usr"}, {Name: ".wh.none"}},
			[]string{"bin/x"}, []string{
				"drwx------ bin", "-rw-r--r-- bin/x = bin/x", "drwxr-xr-x etc", "-rw-r--r-- etc/a = ./etc/a", "-rw------- etc/b = ./etc/b",
			}},
		{"opaque", []tar.Header{{Name: "etc/new"}, {Name: "etc/.wh..wh..opq"}, {Name: "none/.wh..wh..opq"}, {Name: ".wh.bin"}, {Name: "usr/.wh.bin"}},
			[]string{"etc/new"}, []string{"drwxr-xr-x etc", "-rw-r--r-- etc/new = etc/new", "drwxr-xr-x usr"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			dir := t.TempDir()
			root, err := os.OpenRoot(dir)
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			if _, err := unpack(root, archive(t, base...)); err != nil {
				t.Fatal(err)
			}
			files, err := unpack(root, archive(t, test.upper...))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.files, files); diff != "" {
				t.Errorf("files (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(test.want, tree(t, dir)); diff != "" {
				t.Errorf("tree (-want +got):\n%s", diff)
			}
		})
	}
}

func TestUnpackStaysInside(t *testing.T) {
	for _, entries := range [][]tar.Header{
		{{Name: "../outside"}},
		{{Name: "/outside"}},
		{{Name: "a/../../outside"}},
		{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: ".."}, {Name: "link/outside"}},
		{{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "../outside"}, {Name: "hard", Typeflag: tar.TypeLink, Linkname: "link/../../kept"}},
		{{Name: "hard", Typeflag: tar.TypeLink, Linkname: "../kept"}},
		{{Name: "../.wh.kept"}},
		{{Name: "device", Typeflag: tar.TypeChar}},
	} {
		parent := t.TempDir()
		if err := os.WriteFile(parent+"/kept", []byte("kept"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Mkdir(parent+"/root", 0o700); err != nil {
			t.Fatal(err)
		}
		root, err := os.OpenRoot(parent + "/root")
		if err != nil {
			t.Fatal(err)
		}
		_, err = unpack(root, archive(t, entries...))
		root.Close()
		if err == nil {
			t.Errorf("%s: no error", entries[len(entries)-1].Name)
		}
		outside, err := os.ReadDir(parent)
		if err != nil {
			t.Fatal(err)
		}
		if len(outside) != 2 {
			t.Errorf("%s: %v outside", entries[len(entries)-1].Name, outside)
		}
	}
}
