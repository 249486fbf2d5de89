package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/config"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// A second signal during a start that hangs ends the process at once. While the
	// server drains, serve takes it.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run executes one command line and returns the exit status. Results go to
// stdout, everything else to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "waveproxy",
		Short:         "An OCI registry proxy that augments container images on pull",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serveCommand(), augmentCommand(), layerCommand(), inspectCommand(),
		tokenCommand(), configCommand(), storageCommand(), demoCommand(), hostsCommand(), healthCommand(), versionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "waveproxy: %v\n", err)
		return 1
	}
	return 0
}

// configFlag adds --config and returns the function that loads what it names.
func configFlag(cmd *cobra.Command) func() (*config.Config, error) {
	path := cmd.Flags().String("config", os.Getenv("WAVEPROXY_CONFIG"), "configuration `file` (YAML)")
	return func() (*config.Config, error) { return config.Load(*path, os.Environ()) }
}
