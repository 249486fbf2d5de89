//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
)

// process is a program under test with all processes it starts.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    string // file of its output
	exited chan struct{}
}

// launch runs a program with no other environment than env.
func launch(name, log string, env []string, args ...string) (*process, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(env, "PATH="+os.Getenv("PATH"))
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	p := &process{name, cmd, log, make(chan struct{})}
	go func() {
		_ = cmd.Wait()
		close(p.exited)
	}()
	return p, nil
}

// alive returns an error with the end of the log if the process has ended.
func (p *process) alive() error {
	select {
	case <-p.exited:
		return fmt.Errorf("%s ended by itself: %s", p.name, p.cmd.ProcessState)
	default:
		return nil
	}
}

// explain adds the last lines of the process' output to an error.
func (p *process) explain(err error) error {
	data, readErr := os.ReadFile(p.log)
	if err == nil || readErr != nil || len(data) == 0 {
		return err
	}
	lines := strings.Split(strings.TrimSpace(string(data)), "\n")
	return fmt.Errorf("%w; %s says: %s", err, p.name, strings.Join(lines[max(0, len(lines)-3):], " / "))
}

// stop ends the process and its children at once. No measurement depends on an
// orderly end.
func (p *process) stop() error {
	if err := p.alive(); err != nil {
		return err
	}
	if err := syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("stop %s: %w", p.name, err)
	}
	<-p.exited
	return nil
}
