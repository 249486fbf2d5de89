//go:build linux

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// ticksPerSecond is USER_HZ, the unit of times in /proc, on every architecture
// that Go runs on.
const ticksPerSecond = 100

// task is the content of /proc/PID/stat for a process.
type task struct {
	parent int
	cpu    float64 // seconds, user and system
	rss    int64   // bytes
}

// tasks returns all processes of the namespace.
func tasks() (map[int]task, error) {
	files, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	found := map[int]task{}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended since
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if err != nil {
			return nil, err
		}
		if found[pid], err = parseTask(string(data)); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return found, nil
}

// parseTask reads a line as proc(5) describes it. The name in its second field
// may have spaces and parentheses.
func parseTask(line string) (task, error) {
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	if len(fields) < 22 {
		return task{}, fmt.Errorf("%d fields after the name", len(fields))
	}
	var numbers [22]int64
	for i := 1; i < len(numbers); i++ {
		numbers[i], _ = strconv.ParseInt(fields[i], 10, 64) // numbers that do not fit are limits and addresses, which are not used
	}
	return task{
		parent: int(numbers[1]),
		cpu:    float64(numbers[11]+numbers[12]) / ticksPerSecond,
		rss:    numbers[21] * int64(os.Getpagesize()),
	}, nil
}

// below returns the sum over the process and its descendants.
func below(all map[int]task, root int) task {
	var sum task
	for pid, t := range all {
		for at := pid; at != 0; at = all[at].parent {
			if at == root {
				sum.cpu += t.cpu
				sum.rss += t.rss
				break
			}
		}
	}
	return sum
}

// busySeconds returns the CPU time of the whole machine, without processes of a lower
// priority.
func busySeconds() (float64, error) {
	data, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(data), "\n")
	fields := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal ...
	if len(fields) < 9 {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks float64
	for _, i := range []int{1, 3, 6, 7} {
		v, err := strconv.ParseFloat(fields[i], 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		ticks += v
	}
	return ticks / ticksPerSecond, nil
}

// usage is the resources that a server used in a span of time, or up to a moment.
type usage struct {
	time    time.Time
	seconds float64
	cpu     float64 // seconds, of the server
	rss     int64   // bytes, at the end
	own     float64 // CPU seconds of everything in the namespace
	machine float64 // CPU seconds of the machine
}

// use reads the server's counters.
func use(p *process) (usage, error) {
	all, err := tasks()
	if err != nil {
		return usage{}, err
	}
	machine, err := busySeconds()
	if err != nil {
		return usage{}, err
	}
	u := usage{time: time.Now(), machine: machine}
	server := below(all, p.cmd.Process.Pid)
	u.cpu, u.rss = server.cpu, server.rss
	for _, t := range all {
		u.own += t.cpu
	}
	return u, nil
}

// since returns the difference between two readings.
func (u usage) since(before usage) usage {
	return usage{
		time: u.time, seconds: u.time.Sub(before.time).Seconds(), cpu: u.cpu - before.cpu, rss: u.rss,
		own: u.own - before.own, machine: u.machine - before.machine,
	}
}

// foreign returns how many cores other programs of the machine used.
func (u usage) foreign() float64 { return max(0, (u.machine-u.own)/u.seconds) }
