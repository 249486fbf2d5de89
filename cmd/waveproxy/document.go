package main

import (
	"context"
	"errors"
	"io"
	"strings"

	"github.com/waveproxy/waveproxy/containerconfig"
)

// isDocument reports whether a file or URL is a container config, not an archive.
func isDocument(source string) bool {
	return strings.HasSuffix(source, ".json")
}

// readDocuments reads the container configs that files or URLs name, for each of
// arches if {arch} is in the name.
func readDocuments(ctx context.Context, sources, arches []string) ([]containerconfig.Document, error) {
	var names []string
	for _, source := range sources {
		if !isURL(source) {
			source = containerconfig.FileName(localPath(source))
		}
		names = append(names, source)
	}
	found := containerconfig.Expand(names, arches)
	for i := range found {
		if err := found[i].Read(ctx, openDocument); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func openDocument(ctx context.Context, name string) (io.ReadCloser, error) {
	r, _, err := open(ctx, name)
	return r, err
}

// openLayer opens the archive of a document's layer. size is -1 if it is not
// known.
func openLayer(ctx context.Context, d containerconfig.Document, l containerconfig.Layer) (r io.ReadCloser, size int64, err error) {
	path, isFile, err := d.LayerPath(l)
	switch {
	case err != nil:
		return nil, 0, err
	case isFile:
		return open(ctx, path)
	case isURL(l.Location):
		return open(ctx, l.Location)
	case strings.HasPrefix(l.Location, "data:"):
		r, _, err := containerconfig.Inline(ctx, l.Location)
		return r, -1, err
	}
	return nil, 0, errors.New("want data:, an http or https URL, or file: in a document that is a file")
}
