package durable_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/waveproxy/waveproxy/internal/durable"
)

func TestNames(t *testing.T) {
	for name, test := range map[string]struct {
		give       func(f *os.File, path string) error
		old, want  string // content of the named file; no file before if old is ""
		unfinished bool   // the temporary name is still there
	}{
		"replace, new":   {durable.Replace, "", "new", false},
		"replace, taken": {durable.Replace, "old", "new", false},
		"create, new":    {durable.Create, "", "new", true},
		"create, taken":  {durable.Create, "old", "old", true},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			if test.old != "" {
				if err := os.WriteFile(path, []byte(test.old), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			f := temporary(t, filepath.Dir(path), "new")
			if err := test.give(f, path); err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(path); err != nil || string(got) != test.want {
				t.Errorf("file has %q, %v; want %q", got, err, test.want)
			}
			if _, err := os.Lstat(f.Name()); errors.Is(err, fs.ErrNotExist) == test.unfinished {
				t.Errorf("temporary name: error %v, want it to be there: %t", err, test.unfinished)
			}
		})
	}
}

// A file that cannot be synced gets no name.
func TestNotSynced(t *testing.T) {
	for name, give := range map[string]func(*os.File, string) error{"replace": durable.Replace, "create": durable.Create} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			f := temporary(t, filepath.Dir(path), "new")
			f.Close()
			if err := give(f, path); !errors.Is(err, os.ErrClosed) {
				t.Errorf("error %v, want os.ErrClosed", err)
			}
			if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the name exists: %v", err)
			}
		})
	}
}

func temporary(t *testing.T, dir, text string) *os.File {
	t.Helper()
	f, err := os.CreateTemp(dir, ".tmp-*")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	if _, err := f.WriteString(text); err != nil {
		t.Fatal(err)
	}
	return f
}
