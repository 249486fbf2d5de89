//go:build linux

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"regexp"
	"runtime"
	"syscall"
)

// options are the command line.
type options struct {
	rounds int
	only   *regexp.Regexp
	short  bool
	json   string
}

func parseFlags() (options, error) {
	var o options
	only := flag.String("only", "", "take the measurements whose names match this `regexp`")
	flag.IntVar(&o.rounds, "rounds", 5, "how often to measure everything")
	flag.BoolVar(&o.short, "short", false, "one quick round that shows whether everything runs; its numbers mean nothing")
	flag.StringVar(&o.json, "json", "", "write all values to this `file`")
	flag.Parse()
	if flag.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", flag.Arg(0))
	}
	if o.rounds < 1 {
		return o, errors.New("-rounds: want at least 1")
	}
	if o.short {
		o.rounds = 1
	}
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-only: %w", err)
	}
	return o, nil
}

// insideVariable tells the process inside the namespace the directory that the
// process outside has prepared.
const insideVariable = "BENCH_DIR"

func main() {
	// The process inside is tied to the thread that starts it: it inherits the
	// thread's priority and dies with it.
	runtime.LockOSThread()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx)
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		os.Exit(1) // the process inside has printed the reason
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	o, err := parseFlags()
	if err != nil {
		return err
	}
	if dir := os.Getenv(insideVariable); dir != "" {
		return inside(ctx, o, dir)
	}
	return outside(ctx)
}

// outside prepares everything that needs the network or the machine's Go, then runs
// the process inside.
func outside(ctx context.Context) error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, to run in a network namespace of its own")
	}
	dir, err := os.MkdirTemp("", "waveproxy-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := build(ctx, dir); err != nil {
		return err
	}
	return enter(ctx, dir)
}

// errIncomplete is the error of a run whose table has failures in it.
var errIncomplete = errors.New("not everything could be measured: the table says what failed")

// inside takes the measurements and prints the table.
func inside(ctx context.Context, o options, dir string) error {
	if err := setUpNamespace(ctx); err != nil {
		return err
	}
	l, err := newLab(ctx, o, dir)
	if err != nil {
		return err
	}
	res := l.measureAll(ctx)
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("interrupted: %w", err)
	}
	if len(res.measurements) == 0 {
		return fmt.Errorf("-only: no measurement's name matches %q", o.only)
	}
	if err := res.print(os.Stdout); err != nil {
		return err
	}
	if o.json != "" {
		if err := res.writeJSON(o.json); err != nil {
			return err
		}
	}
	if len(res.Failures) > 0 {
		return errIncomplete
	}
	return nil
}
