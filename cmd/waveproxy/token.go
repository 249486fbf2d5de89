package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/config"
)

func tokenCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "token", Short: "Look at tokens and revoke them"}
	cmd.AddCommand(tokenDecodeCommand(), tokenRevokeCommand())
	return cmd
}

var tokenPattern = regexp.MustCompile(fmt.Sprintf(`(?:^|/)([a-z2-7]{%d})(?:$|/)`, auth.TokenLength))

// findToken returns the token in an argument: a token, or an image name with one.
func findToken(arg string) (auth.Token, error) {
	m := tokenPattern.FindStringSubmatch(arg)
	if m == nil {
		return "", fmt.Errorf("no token of %d characters a-z and 2-7 in the argument", auth.TokenLength)
	}
	return auth.Token(m[1]), nil
}

func tokenDecodeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "decode TOKEN|IMAGE",
		Short: "Show what is in a token, and its grant if the server's storage is here",
		Args:  cobra.ExactArgs(1),
	}
	load := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := findToken(args[0])
		if err != nil {
			return err
		}
		claims, err := auth.Decode(token)
		if err != nil {
			return err
		}
		cfg, err := load()
		if err != nil {
			return err
		}
		out := cmd.OutOrStdout()
		fmt.Fprintf(out, "version  %d\nkey id   %d\nexpires  %s\ngrant    %s\n", claims.Version, claims.KeyID, claims.Expires.Format(time.RFC3339), claims.Grant)
		if !hasStorage(cfg) {
			fmt.Fprintf(cmd.ErrOrStderr(), "not verified: %s holds no key; --config names the server's configuration\n", cfg.Storage.Dir)
			return nil
		}
		tokens, err := openTokens(cfg)
		if err != nil {
			return err
		}
		grant, err := tokens.Open(cmd.Context(), token)
		if err != nil {
			fmt.Fprintf(out, "verified no: %v\n", err)
			return nil
		}
		fmt.Fprintln(out, "verified yes")
		return printJSON(out, grant)
	}
	return cmd
}

// hasStorage reports whether there is a key to verify a token with. It creates none.
func hasStorage(cfg *config.Config) bool {
	if len(cfg.Tokens.Keys) > 0 {
		return true
	}
	_, err := os.Stat(filepath.Join(cfg.Storage.Dir, keyFile))
	return err == nil
}

func tokenRevokeCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "revoke TOKEN|IMAGE",
		Short: "Make servers that share this storage refuse a token, within seconds",
		Args:  cobra.ExactArgs(1),
	}
	load := configFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		token, err := findToken(args[0])
		if err != nil {
			return err
		}
		cfg, err := load()
		if err != nil {
			return err
		}
		if !hasStorage(cfg) {
			return fmt.Errorf("%s holds no key: run this where the server's storage is, or name its configuration with --config", cfg.Storage.Dir)
		}
		tokens, err := openTokens(cfg)
		if err != nil {
			return err
		}
		err = tokens.Revoke(cmd.Context(), token)
		if errors.Is(err, auth.ErrExpiredToken) {
			fmt.Fprintf(cmd.ErrOrStderr(), "nothing to do: %v\n", err)
			return nil
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "revoked %s\n", token.Short())
		return nil
	}
	return cmd
}

func printJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}
