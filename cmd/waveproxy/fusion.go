package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/recipes"
)

// fusionReleases is where the container configs of Fusion are published.
const fusionReleases = "https://fusionfs.seqera.io/releases"

var fusionVersion = regexp.MustCompile(`^[0-9]+(\.[0-9]+)*$`)

// additions are documents to add to an image.
type additions struct {
	fusion    string // a version
	documents []string
}

// add reads the documents and adds what they say to the config. Its own settings
// stand.
func (a additions) add(ctx context.Context, config *api.ContainerConfig, platforms string) error {
	sources := slices.Clone(a.documents)
	if a.fusion != "" {
		version := strings.TrimPrefix(a.fusion, "v")
		if !fusionVersion.MatchString(version) {
			return fmt.Errorf("--fusion %q: want a version, such as 2.6", a.fusion)
		}
		releases := strings.TrimSuffix(first(os.Getenv("WAVEPROXY_FUSION_RELEASES"), fusionReleases), "/")
		sources = append(sources, releases+"/v"+version+"-"+recipes.AnyArch+".json")
	}
	arches, err := wantedArchitectures(platforms)
	if err != nil {
		return err
	}
	var found []document
	for _, source := range sources {
		documents, err := readDocuments(ctx, source, arches)
		if err != nil {
			return err
		}
		for _, d := range documents {
			if len(arches) > 1 && !d.tellsArchitecture() {
				return fmt.Errorf("%s: the server cannot tell the architecture of its layers: name one with --platform", &d)
			}
			if err := d.inlineFiles(ctx); err != nil {
				return err
			}
			found = append(found, d)
		}
	}
	merge(found, config)
	return nil
}

// wantedArchitectures are those of the platforms, or all.
func wantedArchitectures(platforms string) ([]string, error) {
	list, err := augment.ParsePlatforms(platforms)
	if err != nil {
		return nil, fmt.Errorf("--platform: %w", err)
	}
	if len(list) == 0 {
		return recipes.Architectures, nil
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
// images they fit, as from those of Fusion, or need not.
func (d *document) tellsArchitecture() bool {
	return d.arch == "" || !slices.ContainsFunc(d.config.Layers, func(l api.ContainerLayer) bool {
		return !isURL(l.Location) || !strings.HasSuffix(l.Location, "/fusion-"+d.arch+".tar.gz")
	})
}

// inlineFiles puts layers that are files on this machine into the request.
func (d *document) inlineFiles(ctx context.Context) error {
	for i, l := range d.config.Layers {
		if !strings.HasPrefix(l.Location, "file:") {
			continue
		}
		data, err := d.readLayer(ctx, l.Location)
		if err != nil {
			return fmt.Errorf("%s: layer %d: %w", d, i+1, err)
		}
		d.config.Layers[i].Location = "data:" + base64.StdEncoding.EncodeToString(data)
	}
	return nil
}

func (d *document) readLayer(ctx context.Context, location string) ([]byte, error) {
	r, size, err := d.openLayer(ctx, location)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if size > maxInline {
		return nil, fmt.Errorf("%s is too much for a request", formatSize(size))
	}
	return io.ReadAll(io.LimitReader(r, maxInline))
}
