package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/config"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/recipes"
	"github.com/waveproxy/waveproxy/upstream"
)

// inspection is what "inspect -o json" prints.
type inspection struct {
	Name      string           `json:"name"`
	MediaType string           `json:"mediaType"`
	Digest    string           `json:"digest"`
	Platforms []platformReport `json:"platforms"`
}

type platformReport struct {
	Platform string          `json:"platform"`
	Digest   string          `json:"digest"`
	Config   json.RawMessage `json:"config"` // the config's "config" member: how a container starts
	Layers   []layerReport   `json:"layers"`
	// Absent tells that the index names the image, but the registry does not have it.
	Absent bool `json:"absent,omitempty"`
}

type layerReport struct {
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
	MediaType string `json:"mediaType"`
	// Source is "injected" or "upstream" in an image of a waveproxy server.
	Source string `json:"source,omitempty"`
}

func inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect IMAGE",
		Short: "Show an image's platforms, layers and config, and which layers a proxy added",
		Args:  cobra.ExactArgs(1),
	}
	load := configFlag(cmd)
	output := cmd.Flags().StringP("output", "o", "text", "what to print: text or json")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if *output != "text" && *output != "json" {
			return fmt.Errorf("--output %q: want text or json", *output)
		}
		cfg, err := load()
		if err != nil {
			return err
		}
		ref, err := auth.ParseImage(args[0])
		if err != nil {
			return fmt.Errorf("%q is not an image name: %w", args[0], err)
		}
		report, err := inspect(cmd.Context(), cfg, reference.TagNameOnly(ref))
		if err != nil {
			return err
		}
		if *output == "json" {
			return printJSON(cmd.OutOrStdout(), report)
		}
		report.print(cmd.OutOrStdout())
		return nil
	}
	return cmd
}

// inspect reads the image from its registry. The registry may be at a private
// address, because the person at the keyboard has named it.
func inspect(ctx context.Context, cfg *config.Config, ref reference.Named) (*inspection, error) {
	host := reference.Domain(ref)
	named := map[string]upstream.Registry{}
	if host != auth.DockerHub {
		named[host] = upstream.Registry{PlainHTTP: isLoopback(host)}
	}
	client, err := newUpstream(cfg, named, new(recipes.Book))
	if err != nil {
		return nil, err
	}
	target := auth.Target{Registry: host, Repository: reference.Path(ref)}
	in := inspector{client: client, target: target, repo: client.Repository(target)}
	want := ""
	if tagged, ok := ref.(reference.Tagged); ok {
		want = tagged.Tag()
	}
	if pinned, ok := ref.(reference.Digested); ok {
		want = pinned.Digest().String()
	}
	root, err := in.repo.Manifest(ctx, want)
	if err != nil {
		return nil, err
	}
	report := &inspection{Name: ref.String(), MediaType: root.MediaType, Digest: root.Digest.String()}
	return report, in.visit(ctx, root, report)
}

// isLoopback reports whether a host is one that Docker, too, reaches without TLS.
func isLoopback(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

type inspector struct {
	client *upstream.Client
	target auth.Target
	repo   *upstream.Repository
}

func (in inspector) visit(ctx context.Context, o augment.Object, report *inspection) error {
	refs, err := o.References(ctx)
	if err != nil {
		return err
	}
	for _, child := range refs.Manifests {
		if p := child.Platform; p != nil && p.OS == "unknown" {
			continue
		}
		manifest, err := in.repo.Manifest(ctx, child.Digest.String())
		if err == nil {
			err = in.visit(ctx, manifest, report)
		}
		if errors.Is(err, augment.ErrAbsent) {
			entry := platformReport{Digest: child.Digest.String(), Absent: true}
			if child.Platform != nil {
				entry.Platform = augment.FormatPlatform(*child.Platform)
			}
			report.Platforms = append(report.Platforms, entry)
			continue
		}
		if err != nil {
			return err
		}
	}
	if refs.Config == nil {
		return nil
	}
	config, err := in.repo.Blob(ctx, *refs.Config)
	if err != nil {
		return err
	}
	var doc struct {
		ocispec.Platform
		Config json.RawMessage `json:"config"`
	}
	if err := config.Decode(ctx, &doc); err != nil {
		return err
	}
	entry := platformReport{Platform: augment.FormatPlatform(doc.Platform), Digest: o.Digest.String(), Config: doc.Config}
	for _, l := range refs.Layers {
		source, err := in.source(ctx, l)
		if err != nil {
			return err
		}
		entry.Layers = append(entry.Layers, layerReport{l.Digest.String(), l.Size, l.MediaType, source})
	}
	report.Platforms = append(report.Platforms, entry)
	return nil
}

// source returns where a waveproxy server has a layer from. It returns "" for other
// registries, without asking them.
func (in inspector) source(ctx context.Context, l ocispec.Descriptor) (string, error) {
	if !strings.HasPrefix(in.target.Repository, "wt/") {
		return "", nil
	}
	h, err := in.repo.BlobHead(ctx, l)
	if err != nil {
		return "", fmt.Errorf("ask for layer %s: %w", l.Digest, err)
	}
	return h.Get(front.SourceHeader), nil
}

func (r *inspection) print(w io.Writer) {
	fmt.Fprintf(w, "%s\n%s\n%s\n", r.Name, r.Digest, r.MediaType)
	for _, p := range r.Platforms {
		if p.Absent {
			fmt.Fprintf(w, "\n%s  %s\n  absent: the index names it, but the registry answered 404\n", p.Platform, p.Digest)
			continue
		}
		fmt.Fprintf(w, "\n%s  %s\n", p.Platform, p.Digest)
		for i, l := range p.Layers {
			fmt.Fprintf(w, "  layer %2d  %s  %9s  %s\n", i+1, l.Digest, formatSize(l.Size), l.Source)
		}
		fmt.Fprintf(w, "  config    %s\n", p.Config)
	}
}

func formatSize(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return fmt.Sprintf("%d B", n)
}
