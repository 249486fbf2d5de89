package demo

import (
	"bytes"
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

func TestProgramRuns(t *testing.T) {
	if runtime.GOOS != "linux" || targets[runtime.GOARCH].code == nil {
		t.Fatalf("no program for %s/%s: run this test on linux/amd64 or linux/arm64", runtime.GOOS, runtime.GOARCH)
	}
	path := filepath.Join(t.TempDir(), "hello")
	if err := os.WriteFile(path, Executable(runtime.GOARCH, "Hello!\nEnvironment:\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		args []string
		env  []string
		want string
	}{
		{"no environment", nil, []string{}, ""},
		{"variables", nil, []string{"A=1", "EMPTY=", "PATH=/bin:/usr/bin"}, "  A=1\n  EMPTY=\n  PATH=/bin:/usr/bin\n"},
		{"arguments", []string{"one", "two three"}, []string{"A=1"}, "  A=1\n"},
		{"long", nil, []string{"A=" + strings.Repeat("x", 100_000), "B=2"}, "  A=" + strings.Repeat("x", 100_000) + "\n  B=2\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			command := exec.CommandContext(t.Context(), path, test.args...)
			command.Env = test.env
			var stdout, stderr bytes.Buffer
			command.Stdout, command.Stderr = &stdout, &stderr
			if err := command.Run(); err != nil {
				t.Fatal(err)
			}
			if want := "Hello!\nEnvironment:\n" + test.want; stdout.String() != want || stderr.Len() != 0 {
				t.Errorf("wrote %q and %q, want %q", stdout.String(), stderr.String(), want)
			}
		})
	}
}

// TestProgramFile checks what the kernel reads, also for the architecture that
// this machine cannot run.
func TestProgramFile(t *testing.T) {
	const message = "Hello!\n"
	for arch, target := range targets {
		t.Run(arch, func(t *testing.T) {
			content := Executable(arch, message)
			f, err := elf.NewFile(bytes.NewReader(content))
			if err != nil {
				t.Fatal(err)
			}
			if f.Type != elf.ET_EXEC || f.Machine != target.machine || len(f.Progs) != 1 {
				t.Fatalf("%s for %s with %d segments", f.Type, f.Machine, len(f.Progs))
			}
			load := f.Progs[0]
			if load.Type != elf.PT_LOAD || load.Flags != elf.PF_R|elf.PF_X || load.Off != 0 || load.Vaddr%load.Align != 0 {
				t.Errorf("segment %+v", load.ProgHeader)
			}
			if load.Filesz != uint64(len(content)) || load.Memsz != load.Filesz {
				t.Errorf("segment of %d bytes, %d in memory, the file has %d", load.Filesz, load.Memsz, len(content))
			}
			entry := f.Entry - load.Vaddr
			data := entry + uint64(len(target.code(0, 0)))
			if entry != codeOffset || string(content[data:]) != indent+message {
				t.Errorf("entry at %d, data %q", entry, content[data:])
			}
			// The operands: the code holds the addresses of the data.
			if want := target.code(uint32(load.Vaddr+data), uint32(len(message))); !bytes.Equal(content[entry:data], want) {
				t.Errorf("code\n%x, want\n%x", content[entry:data], want)
			}
		})
	}
}
