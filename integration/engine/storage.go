//go:build linux

package engine

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// overlayWorks reports whether overlay file systems can be mounted below dir.
// They cannot without root, and on a directory that is itself an overlay, as in
// most containers. Engines then copy layers instead, which is slow.
func overlayWorks(dir string) bool {
	probe, err := os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return false
	}
	defer os.RemoveAll(probe)
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if os.Mkdir(filepath.Join(probe, name), 0o700) != nil {
			return false
		}
	}
	merged := filepath.Join(probe, "merged")
	options := fmt.Sprintf("lowerdir=%[1]s/lower,upperdir=%[1]s/upper,workdir=%[1]s/work", probe)
	if syscall.Mount("overlay", merged, "overlay", 0, options) != nil {
		return false
	}
	return syscall.Unmount(merged, 0) == nil
}

// makeDir makes a directory for the state of an engine, in memory where a file
// system may be mounted, which takes root. Engines sync every layer that they
// unpack to the disk: an image of 60 layers takes a disk ten seconds. removeAll
// removes it.
func makeDir(pattern string) (string, error) {
	dir, err := os.MkdirTemp("", pattern)
	if err != nil {
		return "", err
	}
	// Without root, the directory is on the disk. Engines then work all the same.
	_ = syscall.Mount("waveproxy-test", dir, "tmpfs", syscall.MS_NOATIME, "mode=0700")
	return dir, nil
}

// removeAll unmounts all file systems at dir and below it, then removes dir.
func removeAll(dir string) error {
	mounts, err := mountsIn(dir)
	if err != nil {
		return err
	}
	for _, m := range slices.Backward(mounts) {
		if err := syscall.Unmount(m, syscall.MNT_DETACH); err != nil {
			// Removing now could delete the files of the mounted file system.
			return fmt.Errorf("unmount %s: %w", m, err)
		}
	}
	return os.RemoveAll(dir)
}

// mountsIn lists the mount points at dir and below it, in the order they were
// mounted.
func mountsIn(dir string) ([]string, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var mounts []string
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		// proc_pid_mountinfo(5): the fifth field is the mount point.
		fields := strings.Fields(lines.Text())
		if len(fields) > 4 && strings.HasPrefix(fields[4]+"/", dir+"/") {
			mounts = append(mounts, fields[4])
		}
	}
	return mounts, lines.Err()
}
