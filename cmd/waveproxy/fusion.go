package main

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/containerconfig"
)

// fusionReleases is the site of Fusion's container configs.
const fusionReleases = "https://fusionfs.seqera.io/releases"

var fusionVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// additions are documents to add to an image.
type additions struct {
	fusion    string // a version
	documents []string
}

// add reads the documents and lays the config over them: its own settings have the
// last word. layers names the layers that come from the documents, in their order.
func (a additions) add(ctx context.Context, config *containerconfig.Config, platforms string) (layers []string, err error) {
	sources := slices.Clone(a.documents)
	if a.fusion != "" {
		version := strings.TrimPrefix(a.fusion, "v")
		if !fusionVersion.MatchString(version) {
			return nil, fmt.Errorf("--fusion %q: want a version, such as 2.6", a.fusion)
		}
		releases := strings.TrimSuffix(cmp.Or(os.Getenv("WAVEPROXY_FUSION_RELEASES"), fusionReleases), "/")
		sources = append(sources, releases+"/v"+version+"-"+containerconfig.AnyArch+".json")
	}
	arches, err := wantedArchitectures(platforms)
	if err != nil {
		return nil, err
	}
	documents, err := readDocuments(ctx, sources, arches)
	if err != nil {
		return nil, err
	}
	for _, d := range documents {
		if len(arches) > 1 && !tellsArchitecture(d) {
			return nil, fmt.Errorf("%s: the server cannot tell the architecture of its layers: name one with --platform", d)
		}
		if err := inlineFiles(ctx, d); err != nil {
			return nil, err
		}
	}
	for _, d := range documents {
		for i := range d.Config.Layers {
			layers = append(layers, fmt.Sprintf("container config %s, layer %d", d, i+1))
		}
	}
	merged := containerconfig.Merge(documents)
	*config = config.Over(merged)
	// Clients send the layers of all architectures, and the server takes those that
	// fit.
	config.Layers = append(config.Layers, merged.Layers...)
	return layers, nil
}

// wantedArchitectures returns the architectures of the platforms, or all.
func wantedArchitectures(platforms string) ([]string, error) {
	list, err := augment.ParsePlatforms(platforms)
	if err != nil {
		return nil, fmt.Errorf("--platform: %w", err)
	}
	if len(list) == 0 {
		return containerconfig.Architectures, nil
	}
	var found []string
	for _, p := range list {
		if !slices.Contains(found, p.Architecture) {
			found = append(found, p.Architecture)
		}
	}
	return found, nil
}

// tellsArchitecture reports whether the server sees from the layers' URLs which
// images they fit, as from the URLs of Fusion, or need not see it.
func tellsArchitecture(d containerconfig.Document) bool {
	return d.Arch == "" || !slices.ContainsFunc(d.Config.Layers, func(l containerconfig.Layer) bool {
		return !isURL(l.Location) || !strings.HasSuffix(l.Location, "/fusion-"+d.Arch+".tar.gz")
	})
}

// inlineFiles puts the bytes of layers that are files on this machine into the
// document's config.
func inlineFiles(ctx context.Context, d containerconfig.Document) error {
	for i, l := range d.Config.Layers {
		path, isFile, err := d.LayerPath(l)
		if err == nil && isFile {
			d.Config.Layers[i].Location, err = inlineFile(ctx, path)
		}
		if err != nil {
			return fmt.Errorf("%s: layer %d: %w", d, i+1, err)
		}
	}
	return nil
}

// inlineFile returns the location that holds a file.
func inlineFile(ctx context.Context, path string) (string, error) {
	r, size, err := open(ctx, path)
	if err != nil {
		return "", err
	}
	defer r.Close()
	if size > maxInline {
		return "", fmt.Errorf("%s is too much for a request", formatSize(size))
	}
	data, err := io.ReadAll(io.LimitReader(r, maxInline))
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return "data:" + base64.StdEncoding.EncodeToString(data), nil
}
