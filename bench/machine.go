//go:build linux

package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// machine describes the machine and the programs of a run.
type machine struct {
	Date         time.Time `json:"date"`
	CPU          string    `json:"cpu"`
	Cores        int       `json:"cores"`
	Kernel       string    `json:"kernel"`
	Go           string    `json:"go"`
	Nginx        string    `json:"nginx"`
	Distribution string    `json:"distribution"`
	Waveproxy    string    `json:"waveproxy"` // revision
}

// describeMachine returns the description, with "unknown" for everything that it
// cannot find out, because nothing depends on it.
func describeMachine(ctx context.Context, dir string) machine {
	says := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
		fields := strings.Fields(string(out))
		if err != nil || len(fields) == 0 {
			return "unknown"
		}
		return fields[len(fields)-1]
	}
	m := machine{
		Date: time.Now().UTC().Truncate(time.Second), CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version(),
		Kernel: says("uname", "-r"), Nginx: says("nginx", "-v"), Distribution: says(filepath.Join(dir, "registry"), "--version"),
		Waveproxy: says("git", "describe", "--always", "--dirty"),
	}
	if f, err := os.Open("/proc/cpuinfo"); err == nil {
		defer f.Close()
		for lines := bufio.NewScanner(f); lines.Scan(); {
			if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

func (m machine) String() string {
	return fmt.Sprintf("%s, %d × %s, Linux %s, %s, %s, nginx %s, distribution %s, waveproxy %s",
		m.Date.Format(time.RFC3339), m.Cores, m.CPU, m.Kernel, m.Go, congestionControl, strings.TrimPrefix(m.Nginx, "nginx/"), m.Distribution, m.Waveproxy)
}
