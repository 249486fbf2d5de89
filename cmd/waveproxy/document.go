package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/recipes"
)

// document is a container config in a file: what to add to an image, in the
// form that the API has. Fusion is published as one for each architecture.
type document struct {
	source string // the file or URL
	arch   string // that stood for {arch}; empty if there is none
	config api.ContainerConfig
}

// maxDocument is the size of the largest document that is read.
const maxDocument = 1 << 20

// isDocument tells documents from archives.
func isDocument(source string) bool {
	return strings.HasSuffix(source, ".json")
}

// readDocuments reads a document, or those of the architectures that {arch} in
// its name stands for.
func readDocuments(ctx context.Context, source string, arches []string) ([]document, error) {
	source = strings.TrimPrefix(source, "file:")
	if !strings.Contains(source, recipes.AnyArch) {
		arches = []string{""}
	}
	var found []document
	for _, arch := range arches {
		d := document{source: strings.ReplaceAll(source, recipes.AnyArch, arch), arch: arch}
		if err := d.read(ctx); err != nil {
			return nil, err
		}
		found = append(found, d)
	}
	return found, nil
}

func (d *document) read(ctx context.Context) error {
	r, _, err := open(ctx, d.source)
	if err != nil {
		return err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", d, err)
	case len(data) > maxDocument:
		return fmt.Errorf("%s is larger than %d bytes: it is not a container config", d, maxDocument)
	}
	if err := json.Unmarshal(data, &d.config); err != nil {
		return fmt.Errorf("%s is not a container config: %w", d, err)
	}
	c := d.config
	if len(c.Layers)+len(c.Env)+len(c.Entrypoint)+len(c.Cmd) == 0 && c.WorkingDir == "" {
		return fmt.Errorf("%s is not a container config: it adds nothing", d)
	}
	return nil
}

// String is what messages call the document.
func (d *document) String() string { return redact(d.source) }

// openLayer opens the archive of a layer. Names of files are relative to the
// document, and only documents that are files themselves have them.
func (d *document) openLayer(ctx context.Context, location string) (io.ReadCloser, int64, error) {
	if name, ok := strings.CutPrefix(location, "file:"); ok && !isURL(d.source) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(d.source), name)
		}
		return open(ctx, name)
	}
	if text, ok := strings.CutPrefix(location, "data:"); ok {
		return io.NopCloser(base64.NewDecoder(base64.StdEncoding, strings.NewReader(text))), -1, nil
	}
	if !isURL(location) {
		return nil, 0, errors.New("want data:, an http or https URL, or file: in a document that is a file")
	}
	return open(ctx, location)
}

// merge adds what the documents say to a config, which has the last word.
// Clients send the layers of all architectures, and the server takes those that
// fit.
func merge(documents []document, config *api.ContainerConfig) {
	var all api.ContainerConfig
	for _, d := range documents {
		all.Layers = append(all.Layers, d.config.Layers...)
		for _, e := range d.config.Env {
			if !slices.Contains(all.Env, e) {
				all.Env = append(all.Env, e)
			}
		}
		if len(d.config.Entrypoint) > 0 {
			all.Entrypoint = d.config.Entrypoint
		}
		if len(d.config.Cmd) > 0 {
			all.Cmd = d.config.Cmd
		}
		all.WorkingDir = first(d.config.WorkingDir, all.WorkingDir)
	}
	config.Layers = append(config.Layers, all.Layers...)
	config.Env = append(all.Env, config.Env...)
	config.WorkingDir = first(config.WorkingDir, all.WorkingDir)
	if len(config.Entrypoint) == 0 {
		config.Entrypoint = all.Entrypoint
	}
	if len(config.Cmd) == 0 {
		config.Cmd = all.Cmd
	}
}
