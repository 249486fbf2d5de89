package blobstore_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// childVar names the child that this test binary runs as, instead of its tests.
const childVar = "BLOBSTORE_TEST_CHILD"

// children are programs that crash, run out of space, or share a directory. The
// argument is the store's directory.
var children = map[string]func(ctx context.Context, dir string) error{
	"stall":   stallChild,
	"full":    fullChild,
	"share":   shareChild,
	"collect": collectChild,
}

func TestMain(m *testing.M) {
	if name := os.Getenv(childVar); name != "" {
		if err := children[name](context.Background(), os.Args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

// child is a running child process. It prints one line on stdout when it reaches
// the point of interest, and continues when its stdin is closed.
type child struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
}

func startChild(t *testing.T, name, dir string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self, dir)
	cmd.Env = append(os.Environ(), childVar+"="+name)
	cmd.Stderr = t.Output()
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &child{cmd, stdin, bufio.NewReader(stdout)}
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	return c
}

// await returns when the child has reached the point of interest.
func (c *child) await(t *testing.T) {
	t.Helper()
	if line, err := c.stdout.ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("child said %q, error %v", line, err)
	}
}

// line returns the next line that the child prints.
func (c *child) line(t *testing.T) string {
	t.Helper()
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		t.Fatalf("child said %q, error %v", line, err)
	}
	return strings.TrimSpace(line)
}

// pause is the counterpart of await in the child.
func pause() {
	fmt.Println("ready")
	io.Copy(io.Discard, os.Stdin)
}
