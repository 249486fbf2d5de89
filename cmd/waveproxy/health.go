package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

// healthTimeout is shorter than the time that container engines allow a check.
const healthTimeout = 5 * time.Second

func healthCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it can serve, for the health checks of containers",
		Long:  "Ask a server whether it can serve (/readyz). The exit status is 1 if it cannot.",
		Args:  cobra.NoArgs,
	}
	server := cmd.Flags().String("server", cmp.Or(os.Getenv("WAVEPROXY_SERVER"), defaultServer), "`URL` of the server; also WAVEPROXY_SERVER")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), healthTimeout)
		defer cancel()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(*server, "/")+"/readyz", nil)
		if err != nil {
			return fmt.Errorf("--server: %w", err)
		}
		req.Header.Set("User-Agent", userAgent)
		resp, err := downloads().Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		raw, err := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		if err != nil {
			return fmt.Errorf("read the answer of %s: %w", *server, err)
		}
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("%s: %s", resp.Status, serverMessage(raw))
		}
		fmt.Fprintln(cmd.OutOrStdout(), "ok")
		return nil
	}
	return cmd
}
