package auth

import "os/exec"

// endWithChildren leaves the command as it is. Windows has no process groups, and the
// server, whose helpers may hang for ever, does not run there.
func endWithChildren(*exec.Cmd) {}
