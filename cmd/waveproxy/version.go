package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is this release. Clients of the Wave API compare it as a semantic
// version and want at least 1.31; the build metadata is waveproxy's own version.
const version = "1.37.0+waveproxy.0.1"

// commit is the revision the binary was built from, if the build recorded it.
func commit() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				return s.Value
			}
		}
	}
	return "unknown"
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		Run: func(cmd *cobra.Command, _ []string) {
			fmt.Fprintf(cmd.OutOrStdout(), "waveproxy %s (%s)\n", version, commit())
		},
	}
}
