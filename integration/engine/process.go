//go:build linux

package engine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

const (
	commandTimeout = 2 * time.Minute
	startTimeout   = time.Minute
	stopTimeout    = time.Minute
)

// systemPath is where packages put engines and their helpers. It comes before
// PATH: a containerd, shim or docker installed elsewhere would be mixed with the
// packaged ones. It has sbin, which users' PATH often lacks.
const systemPath = "/usr/sbin:/usr/bin:/sbin:/bin"

func find(name string) (string, error) {
	for _, dir := range filepath.SplitList(systemPath) {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path, nil
		}
	}
	return exec.LookPath(name)
}

// command is an engine's program with the flags and environment of all its calls.
// The environment starts empty: no proxy, no credentials.
type command struct {
	path  string
	flags []string
	env   []string
}

func newCommand(name, dir string, env ...string) (command, error) {
	path, err := find(name)
	if err != nil {
		return command{}, err
	}
	tmp := filepath.Join(dir, "tmp")
	if err := os.MkdirAll(tmp, 0o700); err != nil {
		return command{}, err
	}
	env = append(env, "HOME="+dir, "TMPDIR="+tmp, "LC_ALL=C", "PATH="+filepath.Dir(path)+":"+systemPath)
	return command{path: path, env: env}, nil
}

// run returns the program's output. Its error has the end of both streams.
func (c command) run(ctx context.Context, args ...string) (stdout, stderr string, err error) {
	return c.runWith(ctx, nil, args...)
}

// runWith is run with a standard input.
func (c command) runWith(ctx context.Context, stdin io.Reader, args ...string) (stdout, stderr string, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.path, slices.Concat(c.flags, args)...)
	cmd.Env = c.env
	cmd.WaitDelay = time.Second // a child that holds the pipes must not hold the test
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err = cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(c.path), strings.Join(args, " "), err, tail(out.String()+errs.String()))
	}
	return out.String(), errs.String(), err
}

func tail(output string) string {
	const most = 1000
	output = strings.TrimSpace(output)
	return output[max(0, len(output)-most):]
}

// daemon is a process that runs until stop.
type daemon struct {
	process *os.Process
	exited  chan struct{}
}

// start starts the program in the background, writes its output to the file log,
// and waits until ready succeeds.
func (c command) start(log string, ready func(context.Context) error) (*daemon, error) {
	if os.Geteuid() != 0 {
		return nil, fmt.Errorf("%s needs root", c.path)
	}
	output, err := os.Create(log)
	if err != nil {
		return nil, err
	}
	defer output.Close()
	cmd := exec.Command(c.path, c.flags...)
	cmd.Env, cmd.Stdout, cmd.Stderr = c.env, output, output
	// In a process group of its own, so that stop reaches its children. Pdeathsig
	// ends it with a test binary that is killed or panics.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	started, exited := make(chan error), make(chan struct{})
	go func() {
		defer close(exited)
		// Pdeathsig is sent when the starting thread ends, not the process
		// (https://go.dev/issue/27505): this thread stays until the daemon is gone.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			cmd.Wait() // the log shows how the process ended
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	d := &daemon{process: cmd.Process, exited: exited}
	if err := d.await(ready); err != nil {
		content, _ := os.ReadFile(log)
		return nil, errors.Join(fmt.Errorf("start %s: %w: %s", c.path, err, tail(string(content))), d.stop())
	}
	return d, nil
}

func (d *daemon) await(ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.exited:
			return errors.New("the process exited")
		case <-ctx.Done():
			return err
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (d *daemon) stop() error {
	d.process.Signal(syscall.SIGTERM) // fails only if it has exited
	select {
	case <-d.exited:
		return nil
	case <-time.After(stopTimeout):
	}
	syscall.Kill(-d.process.Pid, syscall.SIGKILL)
	<-d.exited
	return fmt.Errorf("process %d did not end within %s and was killed", d.process.Pid, stopTimeout)
}
