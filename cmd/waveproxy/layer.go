package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/internal/durable"
)

func layerCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "layer", Short: "Make and fetch layers"}
	cmd.AddCommand(layerPackCommand(), layerImportCommand())
	return cmd
}

func layerPackCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "pack DIR[:/target]",
		Short: "Pack a directory as a reproducible layer archive",
		Long: "Pack a directory as a layer (.tar.gz). The same files give the same bytes: names are\n" +
			"sorted, times are zero, everything belongs to root, modes are kept. Digest, size and\n" +
			"diff ID go to stderr.",
		Args: cobra.ExactArgs(1),
	}
	output := cmd.Flags().StringP("output", "o", "", "write to this `file` instead of stdout")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		data, layer, err := packLayer(cmd.Context(), args[0])
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		fmt.Fprintf(cmd.ErrOrStderr(), "digest %s\nsize   %d\ndiffID %s\n", layer.Digest, layer.Size, layer.DiffID)
		if *output == "" {
			_, err = cmd.OutOrStdout().Write(data)
			return err
		}
		return writeFile(*output, data)
	}
	return cmd
}

// tempPattern matches the names of files while they are written.
const tempPattern = ".waveproxy-*"

// writeFile writes a file whole or not at all.
func writeFile(name string, data []byte) error {
	return writeFrom(name, bytes.NewReader(data))
}

func writeFrom(name string, r io.Reader) error {
	f, err := os.CreateTemp(filepath.Dir(name), tempPattern)
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails once the file has its name
	defer f.Close()           // before that, because Windows removes no open file
	_, err = io.Copy(f, r)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = durable.Replace(f, name)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// readLayer turns a --layer value into the wire form: URLs are left to the
// server to fetch, everything else travels in the request.
func readLayer(ctx context.Context, spec string) (containerconfig.Layer, error) {
	if isURL(spec) {
		return containerconfig.Layer{Location: spec}, nil
	}
	data, layer, err := packLayer(ctx, spec)
	if err != nil {
		return containerconfig.Layer{}, err
	}
	return containerconfig.Describe(layer, "data:"+base64.StdEncoding.EncodeToString(data)), nil
}

// maxInline bounds a layer that travels in a request. What the server takes is
// its api.max_body; this only keeps a mistyped path from filling memory.
const maxInline = 512 << 20

// packLayer reads a directory, packed below its target, or an archive file.
func packLayer(ctx context.Context, spec string) ([]byte, augment.Layer, error) {
	path, target := splitTarget(spec)
	info, err := os.Stat(path)
	if err != nil {
		return nil, augment.Layer{}, err
	}
	var archive bytes.Buffer
	if info.IsDir() {
		err = augment.Pack(&limitedWriter{w: &archive, left: maxInline}, os.DirFS(path), cmp.Or(target, "/"))
	} else if target != "" {
		err = errors.New("only a directory takes a target: an archive says itself where its files go")
	} else {
		err = readFile(&archive, path)
	}
	if err != nil {
		return nil, augment.Layer{}, err
	}
	return checkArchive(ctx, archive.Bytes())
}

// checkArchive inspects an archive and returns it as gzip.
func checkArchive(ctx context.Context, data []byte) ([]byte, augment.Layer, error) {
	found, err := augment.Inspect(ctx, bytes.NewReader(data), augment.DefaultLimits)
	if err != nil {
		return nil, augment.Layer{}, err
	}
	mem := blobstore.NewMem()
	layer, err := augment.Keep(ctx, mem, bytes.NewReader(data), found)
	if err != nil {
		return nil, augment.Layer{}, err
	}
	f, err := mem.Open(ctx, layer.Digest)
	if err != nil {
		return nil, augment.Layer{}, err
	}
	defer f.Close()
	data, err = io.ReadAll(f)
	return data, layer, err
}

// splitTarget splits DIR:/target. A path that exists is not split.
func splitTarget(spec string) (path, target string) {
	if _, err := os.Stat(spec); err == nil {
		return spec, ""
	}
	if i := strings.LastIndex(spec, ":/"); i > 0 {
		return spec[:i], spec[i+1:]
	}
	return spec, ""
}

func readFile(w io.Writer, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(&limitedWriter{w: w, left: maxInline}, f)
	return err
}

type limitedWriter struct {
	w    io.Writer
	left int64
}

func (l *limitedWriter) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("larger than %d MiB, which is too much for a request: put it on a web server and give its URL", int64(maxInline)>>20)
	}
	return l.w.Write(p)
}
