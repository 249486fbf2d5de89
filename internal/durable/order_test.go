package durable

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestOrder looks at the system calls of a process that names files: the file is
// synced, then it gets its name, then the directory is synced. kill -9 cannot show
// the order, because the kernel keeps what was written.
func TestOrder(t *testing.T) {
	if dir := os.Getenv("DURABLE_TEST_DIR"); dir != "" {
		nameFiles(t, dir)
		return
	}
	strace, err := exec.LookPath("strace")
	if err != nil {
		t.Fatal("this test needs strace, which .ci/run installs: ", err)
	}
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	trace := filepath.Join(t.TempDir(), "trace")
	cmd := exec.Command(strace, "-f", "-y", "-o", trace, "-e", "trace=fsync,fdatasync,rename,renameat,renameat2,link,linkat", os.Args[0], "-test.run=^TestOrder$")
	cmd.Env = append(os.Environ(), "DURABLE_TEST_DIR="+dir)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	calls, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(string(calls)) {
		m := regexp.MustCompile(`(fsync|fdatasync|rename\w*|link\w*)\((.*)`).FindStringSubmatch(line)
		if m == nil || !strings.Contains(line, dir) || strings.Contains(line, "resumed>") {
			continue
		}
		switch {
		case strings.HasPrefix(m[1], "f") && strings.Contains(m[2], TempPrefix):
			got = append(got, "sync file")
		case strings.HasPrefix(m[1], "f"):
			got = append(got, "sync directory")
		default:
			got = append(got, m[1][:4])
		}
	}
	want := "sync file, rena, sync directory, sync file, link, sync directory"
	if all := strings.Join(got, ", "); all != want {
		t.Errorf("calls: %s; want %s\n%s", all, want, calls)
	}
}

// nameFiles runs under strace.
func nameFiles(t *testing.T, dir string) {
	for name, give := range []func(*os.File, string) error{Replace, Create} {
		f, err := CreateTemp(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("text"); err != nil {
			t.Fatal(err)
		}
		if err := give(f, filepath.Join(dir, string(rune('a'+name)))); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
}
