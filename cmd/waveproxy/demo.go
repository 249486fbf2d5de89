package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/cmd/waveproxy/demo"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/containerconfig"
)

func demoCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Show a pull through the proxy, from start to end, without any network",
		Long: "Start a registry with a small image and a proxy in front of it, both on this machine,\n" +
			"augment the image, pull it through the proxy with a real client, check every digest and\n" +
			"unpack it. Then keep running, so that docker can pull it as well.",
		Args: cobra.NoArgs,
	}
	once := cmd.Flags().Bool("once", false, "end after the pull")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		return runDemo(cmd.Context(), cmd.OutOrStdout(), *once)
	}
	return cmd
}

// greeting is where the demo's layer puts a program.
const greeting = "usr/local/bin/greet"

func runDemo(ctx context.Context, out io.Writer, once bool) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dir, err := os.MkdirTemp("", "waveproxy-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	upstreamHost, stop, err := demo.StartRegistry(ctx)
	if err != nil {
		return err
	}
	defer stop()
	fmt.Fprintf(out, "upstream   %s/%s:%s, a real registry in this process\n", upstreamHost, demo.Repository, demo.Tag)

	started := time.Now()
	base, served, err := startDemoProxy(ctx, dir, upstreamHost)
	if err != nil {
		return err
	}
	defer func() {
		cancel()
		err = errors.Join(err, <-served)
	}()
	fmt.Fprintf(out, "proxy      %s, ready after %s\n", base, since(started))

	answer, err := demoSubmit(ctx, dir, base, out)
	if err != nil {
		return err
	}
	if err := showPull(ctx, out, upstreamHost, answer); err != nil {
		return err
	}
	if once {
		return nil
	}
	fmt.Fprintf(out, "\nThe proxy keeps running. Try:\n\n  docker run --rm %s\n\nPress Ctrl-C to end.\n", answer.TargetImage)
	select {
	case <-ctx.Done():
		return nil
	case err := <-served:
		served <- nil
		return err
	}
}

// startDemoProxy serves on a free port, with the demo's registry standing in
// for Docker Hub. The channel gets what serve returned.
func startDemoProxy(ctx context.Context, dir, upstreamHost string) (base string, served chan error, err error) {
	cfg := config.Defaults()
	cfg.HTTP.Addr = "127.0.0.1:0"
	cfg.Storage.Dir = filepath.Join(dir, "data")
	cfg.Registries = map[string]config.Registry{auth.DockerHub: {URL: config.URL{Scheme: "http", Host: upstreamHost}}}
	ready := make(chan string, 1)
	served = make(chan error, 2)
	go func() {
		served <- serve(ctx, cfg, nil, slog.New(slog.DiscardHandler), func(url string) { ready <- url })
	}()
	select {
	case base = <-ready:
		return base, served, nil
	case err := <-served:
		return "", nil, err
	}
}

// demoSubmit asks the proxy for the augmented image, as "waveproxy augment" does.
func demoSubmit(ctx context.Context, dir, base string, out io.Writer) (api.SubmitResponse, error) {
	files := filepath.Join(dir, "files", filepath.Dir(greeting))
	if err := os.MkdirAll(files, 0o755); err != nil {
		return api.SubmitResponse{}, err
	}
	program := demo.Executable(demoArch(), "greetings from the layer that was added\n")
	if err := os.WriteFile(filepath.Join(files, filepath.Base(greeting)), program, 0o755); err != nil {
		return api.SubmitResponse{}, err
	}
	layer, err := readLayer(ctx, filepath.Join(dir, "files"))
	if err != nil {
		return api.SubmitResponse{}, err
	}
	started := time.Now()
	answer, _, err := submit(ctx, base, api.SubmitRequest{
		ContainerImage:    demo.Repository + ":" + demo.Tag,
		ContainerPlatform: "linux/" + demoArch(),
		ContainerConfig: &containerconfig.Config{
			Entrypoint: []string{"/" + greeting},
			Env:        []string{"GREETING=hello"},
			Layers:     []containerconfig.Layer{layer},
		},
	}, wording{})
	if err != nil {
		return answer, err
	}
	fmt.Fprintf(out, "augmented  in %s: base %s\n           is now    %s\n           pull it as %s\n",
		since(started), answer.SourceDigest, answer.TargetDigest, answer.TargetImage)
	return answer, nil
}

// demoArch returns the architecture whose program runs on this machine.
func demoArch() string {
	if runtime.GOARCH == "arm64" {
		return "arm64"
	}
	return "amd64"
}

// showPull pulls the base from its registry and the augmented image through the
// proxy, and shows which layers are the same.
func showPull(ctx context.Context, out io.Writer, upstreamHost string, answer api.SubmitResponse) error {
	platform := ocispec.Platform{OS: "linux", Architecture: demoArch()}
	original, err := demo.Pull(ctx, upstreamHost+"/"+demo.Repository+":"+demo.Tag, platform)
	if err != nil {
		return err
	}
	defer original.Remove()
	pulled, err := demo.Pull(ctx, answer.TargetImage, platform)
	if err != nil {
		return err
	}
	defer pulled.Remove()
	fmt.Fprintf(out, "pulled     manifest %s in %s (%s straight from the upstream)\n           every digest, size and diff ID checked, unpacked to a directory\n\n",
		pulled.Manifest.Digest, round(pulled.Elapsed), round(original.Elapsed))
	for i, l := range pulled.Layers {
		what := "added    "
		if slices.ContainsFunc(original.Layers, func(o demo.Layer) bool { return o.Digest == l.Digest }) {
			what = "untouched"
		}
		fmt.Fprintf(out, "layer %d    %s  %s  %s\n           diff ID    %s\n           files      %s\n",
			i+1, what, l.Digest, formatSize(l.Size), l.DiffID, strings.Join(l.Files, ", "))
	}
	c := pulled.Config.Config
	fmt.Fprintf(out, "\nentrypoint %q, was %q\nenv        %q\n", c.Entrypoint, original.Config.Config.Entrypoint, c.Env)
	if _, err := os.Stat(filepath.Join(pulled.Dir, greeting)); err != nil {
		return fmt.Errorf("the added program is not in the image: %w", err)
	}
	return nil
}

func since(start time.Time) time.Duration { return round(time.Since(start)) }

func round(d time.Duration) time.Duration { return d.Round(10 * time.Microsecond) }
