package main

import (
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/config"
)

func storageCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "storage", Short: "Look at a server's storage, clean it and check it, while servers run"}
	cmd.AddCommand(storageStatsCommand(), storageCollectCommand(), storageVerifyCommand())
	return cmd
}

// onStorage makes a command that works on the storage of a configuration.
func onStorage(use, short string, run func(*cobra.Command, *config.Config, *blobstore.Dir) error) *cobra.Command {
	cmd := &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs}
	load := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := load()
		if err != nil {
			return err
		}
		if cfg.Storage.InBucket() {
			return fmt.Errorf("the storage is %s, and this command is for directories: servers delete what has expired in a bucket, and its own tools count and check it", storageOf(cfg))
		}
		store, err := storageDir(cfg.Storage.Dir)
		if err != nil {
			return err
		}
		return run(cmd, cfg, store)
	}
	return cmd
}

func storageStatsCommand() *cobra.Command {
	return onStorage("stats", "Print how many files and bytes the storage has, by kind and by the day on which they go",
		func(cmd *cobra.Command, _ *config.Config, store *blobstore.Dir) error {
			stats, err := store.Stats(cmd.Context())
			if err != nil {
				return err
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', tabwriter.AlignRight)
			fmt.Fprintln(w, "files\tbytes\t  what")
			var all blobstore.Usage
			for _, name := range slices.Sorted(maps.Keys(stats)) {
				fmt.Fprintf(w, "%d\t%d\t  %s\n", stats[name].Files, stats[name].Bytes, name)
				all.Files += stats[name].Files
				all.Bytes += stats[name].Bytes
			}
			fmt.Fprintf(w, "%d\t%d\t  all\n", all.Files, all.Bytes)
			return w.Flush()
		})
}

func storageCollectCommand() *cobra.Command {
	var dry *bool
	cmd := onStorage("collect", "Delete what has expired and what was not used in storage.retention, as servers do every hour",
		func(cmd *cobra.Command, cfg *config.Config, store *blobstore.Dir) error {
			done, err := store.Collect(cmd.Context(), blobstore.CollectOptions{Retention: cfg.Storage.Retention, TokenTTL: cfg.Tokens.TTL, DryRun: *dry})
			if err != nil {
				return err
			}
			verb := "deleted"
			if *dry {
				verb = "would delete"
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %d files, %d bytes; %d whole days\n", verb, done.Files, done.Bytes, done.Days)
			return err
		})
	dry = cmd.Flags().Bool("dry-run", false, "delete nothing, print what would be deleted")
	return cmd
}

func storageVerifyCommand() *cobra.Command {
	var repair *bool
	cmd := onStorage("verify", "Read all blobs and compare them with their digests. The exit status is 1 if one is damaged",
		func(cmd *cobra.Command, _ *config.Config, store *blobstore.Dir) error {
			faults := 0
			checked, err := store.Check(cmd.Context(), *repair, func(path string, fault error) {
				faults++
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %v\n", path, fault)
			})
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "checked %d files, %d bytes\n", checked.Files, checked.Bytes)
			if faults > 0 && !*repair {
				return fmt.Errorf("%d files are damaged; --repair sets them aside, so that the next request for an image makes it anew", faults)
			}
			return nil
		})
	repair = cmd.Flags().Bool("repair", false, "set damaged files aside: the next request for the image stores it again")
	return cmd
}
