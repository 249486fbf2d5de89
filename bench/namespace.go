//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// enter runs this program again in a network namespace that has only loopback,
// and in a process namespace, so that all servers end when it does.
func enter(ctx context.Context, dir string) error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	// A little above the other programs of the machine. This is the thread's own
	// priority, which the new process inherits with all its threads.
	if err := syscall.Setpriority(syscall.PRIO_PROCESS, 0, -5); err != nil {
		return fmt.Errorf("raise priority: %w", err)
	}
	cmd := exec.CommandContext(ctx, self, os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	err = cmd.Run()
	if errors.Is(err, syscall.EPERM) {
		return fmt.Errorf("make a network namespace (in a container this takes CAP_SYS_ADMIN): %w", err)
	}
	return err
}

// congestionControl is what every connection must use.
const congestionControl = "cubic"

func setUpNamespace(ctx context.Context) error {
	// Mounts made here must not be seen outside.
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, command := range []string{
		"ip link set lo up",
		"ip route change local 127.0.0.1 dev lo table local congctl " + congestionControl,
	} {
		args := strings.Fields(command)
		if out, err := exec.CommandContext(ctx, args[0], args[1:]...).CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", command, err, out)
		}
	}
	return checkCongestionControl()
}

// checkCongestionControl returns an error unless both ends of a connection use it.
func checkCongestionControl() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	defer listener.Close()
	dialled, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		return err
	}
	defer dialled.Close()
	accepted, err := listener.Accept()
	if err != nil {
		return err
	}
	defer accepted.Close()
	for _, c := range []net.Conn{dialled, accepted} {
		name, err := congestionControlOf(c)
		if err != nil {
			return fmt.Errorf("read congestion control: %w", err)
		}
		if name != congestionControl {
			return fmt.Errorf("connections use %s in spite of the route: want %s", name, congestionControl)
		}
	}
	return nil
}

func congestionControlOf(c net.Conn) (string, error) {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return "", err
	}
	var name [16]byte
	size := uint32(len(name))
	var errno syscall.Errno
	err = raw.Control(func(fd uintptr) {
		_, _, errno = syscall.Syscall6(syscall.SYS_GETSOCKOPT, fd, syscall.IPPROTO_TCP, syscall.TCP_CONGESTION,
			uintptr(unsafe.Pointer(&name)), uintptr(unsafe.Pointer(&size)), 0)
	})
	if err == nil && errno != 0 {
		err = errno
	}
	return strings.TrimRight(string(name[:]), "\x00"), err
}
