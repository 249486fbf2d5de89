package durable

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func TestCheckSpace(t *testing.T) {
	old := statfs
	t.Cleanup(func() { statfs = old })
	for name, test := range map[string]struct {
		space
		reserve int64
		full    bool
	}{
		"room":                       {space{100, 1000, 5000, 9000}, 100, false},
		"a byte short":               {space{99, 1000, 5000, 9000}, 100, true},
		"no reserve":                 {space{0, 1000, 5000, 9000}, 0, false},
		"few files":                  {space{500, 1000, 1023, 1 << 20}, 100, true},
		"enough files":               {space{500, 1000, 1024, 1 << 20}, 100, false},
		"few files, few in all":      {space{500, 1000, 50, 1000}, 100, false},
		"files that are not counted": {space{500, 1000, 0, 0}, 100, false},
	} {
		statfs = func(string) (space, error) { return test.space, nil }
		err := CheckSpace("x", func(size int64) int64 {
			if size != 1000 {
				t.Errorf("%s: asked for the reserve of %d bytes", name, size)
			}
			return test.reserve
		})
		if _, full := errors.AsType[*Full](err); full != test.full || full == (err == nil) {
			t.Errorf("%s: %v", name, err)
		}
	}
	statfs = old
	if err := CheckSpace(t.TempDir(), func(int64) int64 { return 1 }); err != nil {
		t.Error(err)
	}
	if err := CheckSpace("/no/such/directory", func(int64) int64 { return 1 }); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

func TestAsFull(t *testing.T) {
	for err, want := range map[error]bool{
		&os.PathError{Err: syscall.ENOSPC}: true, &os.PathError{Err: syscall.EDQUOT}: true, syscall.EIO: false,
	} {
		got := AsFull(err)
		if _, full := errors.AsType[*Full](got); full != want || !errors.Is(got, err) {
			t.Errorf("%v becomes %v", err, got)
		}
	}
	if AsFull(nil) != nil {
		t.Error("no error becomes one")
	}
}

func TestRoomWriter(t *testing.T) {
	var out strings.Builder
	looks := 0
	full := errors.New("full")
	w := NewRoomWriter(&out, func() error {
		if looks++; looks > 2 {
			return full
		}
		return nil
	})
	for range 4 {
		if n, err := w.Write(make([]byte, checkEvery/2)); err != nil || n != checkEvery/2 {
			t.Fatal(n, err)
		}
	}
	if _, err := w.Write(make([]byte, checkEvery/2)); err != full || out.Len() != 2*checkEvery {
		t.Errorf("error %v after %d bytes and %d looks", err, out.Len(), looks)
	}
}

// TestCreateWithoutLinks: where hard links are refused the bytes are copied, and a
// file that has the name already keeps it.
func TestCreateWithoutLinks(t *testing.T) {
	old := link
	t.Cleanup(func() { link = old })
	for _, refusal := range []error{syscall.EPERM, syscall.EOPNOTSUPP, syscall.ENOSYS, syscall.EXDEV} {
		link = func(from, to string) error { return &os.LinkError{Op: "link", Old: from, New: to, Err: refusal} }
		dir := t.TempDir()
		path := filepath.Join(dir, "file")
		for _, text := range []string{"first", "second"} {
			f, err := CreateTemp(dir)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := f.WriteString(text); err != nil {
				t.Fatal(err)
			}
			if err := Create(f, path); err != nil {
				t.Errorf("%v: %v", refusal, err)
			}
			f.Close()
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%v: %v, %v", refusal, info, err)
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != "first" {
			t.Errorf("%v: file has %q, %v", refusal, got, err)
		}
	}
	link = func(string, string) error { return syscall.EIO }
	f, err := CreateTemp(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Create(f, filepath.Join(t.TempDir(), "file")); !errors.Is(err, syscall.EIO) {
		t.Errorf("another error: %v", err)
	}
}
