package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/waveproxy/waveproxy/config"
)

func configCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "config", Short: "Check or describe the configuration"}
	check := &cobra.Command{
		Use:   "check",
		Short: "Load the configuration as serve does and print what is in effect, without secrets",
		Args:  cobra.NoArgs,
	}
	load := configFlag(check)
	check.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		for _, warning := range cfg.Warnings() {
			fmt.Fprintln(cmd.ErrOrStderr(), "warning: "+warning)
		}
		out, err := yaml.Marshal(cfg)
		if err != nil {
			return fmt.Errorf("print configuration: %w", err)
		}
		_, err = cmd.OutOrStdout().Write(out)
		return err
	}
	schema := &cobra.Command{
		Use:   "schema",
		Short: "Print the JSON schema of the configuration file, for editors and other tools",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := config.Schema()
			if err != nil {
				return err
			}
			s["$schema"], s["title"] = "http://json-schema.org/draft-07/schema#", "waveproxy configuration"
			return printJSON(cmd.OutOrStdout(), s)
		},
	}
	cmd.AddCommand(check, schema)
	return cmd
}
