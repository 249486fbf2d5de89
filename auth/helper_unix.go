//go:build !windows

package auth

import (
	"os/exec"
	"syscall"
)

// endWithChildren has the end of the command's context end all that it has started,
// too.
func endWithChildren(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
