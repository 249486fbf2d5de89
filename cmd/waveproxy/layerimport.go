package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/containerconfig"
)

// maxImport is the size of the largest archive that is imported.
const maxImport = 16 << 30

func layerImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE|URL",
		Short: "Fetch layers into a directory, for a server without the internet",
		Long: "Fetch a layer archive, or a container config (.json) and the layers that it names, check\n" +
			"them, and write them to a directory. The directory can be carried to a server without\n" +
			"the internet, whose configuration then names files instead of URLs: the lines for it\n" +
			"are printed. {arch} in the name of a container config stands for amd64 and arm64.",
		Example: "  waveproxy layer import 'https://fusionfs.seqera.io/releases/v2.6-{arch}.json' --dir fusion\n" +
			"  waveproxy layer import https://example.org/agent.tar.gz --dir layers",
		Args: cobra.ExactArgs(1),
	}
	dir := cmd.Flags().String("dir", ".", "`directory` to write to")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := os.MkdirAll(*dir, 0o755); err != nil {
			return err
		}
		in := importer{dir: *dir, log: cmd.ErrOrStderr()}
		if isDocument(args[0]) {
			return in.documents(cmd.Context(), cmd.OutOrStdout(), args[0])
		}
		layer, err := in.layer(cmd.Context(), redact(args[0]), containerconfig.Layer{}, func() (io.ReadCloser, int64, error) {
			return open(cmd.Context(), args[0])
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "layers:\n  - path: %q\n", filepath.Join(*dir, fileOf(layer.Digest)))
		return err
	}
	return cmd
}

// fusionLayer matches the URL of a layer whose name tells servers its architecture.
var fusionLayer = regexp.MustCompile(`/fusion-\w+\.tar\.gz$`)

// importer writes layers to a directory, under their digests.
type importer struct {
	dir string
	log io.Writer
}

// documents imports documents with their layers, and prints the line with which a
// recipe uses them.
func (in importer) documents(ctx context.Context, out io.Writer, source string) error {
	if strings.Contains(source, containerconfig.AnyArch) && !strings.Contains(documentName(source), containerconfig.AnyArch) {
		return fmt.Errorf("%s: %s is not in the name of the file, so each document would overwrite the previous one: import them one by one, each with a --dir of its own", redact(source), containerconfig.AnyArch)
	}
	found, err := readDocuments(ctx, []string{source}, containerconfig.Architectures)
	if err != nil {
		return err
	}
	for _, d := range found {
		if err := in.document(ctx, d); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "container_config_url: %q\n", "file:"+filepath.Join(in.dir, documentName(source)))
	return err
}

// document imports the layers of a document, and writes the document after them, so
// that it never names a file that is missing.
func (in importer) document(ctx context.Context, d containerconfig.Document) error {
	for i, l := range d.Config.Layers {
		if name := fusionLayer.FindString(l.Location); name != "" && d.Arch == "" && isURL(l.Location) {
			return fmt.Errorf("%s: layer %d is %s: a file does not say which architecture it is for, so write %s in the name of the container config", d, i+1, name, containerconfig.AnyArch)
		}
		layer, err := in.layer(ctx, fmt.Sprintf("%s: layer %d", d, i+1), l, func() (io.ReadCloser, int64, error) {
			return openLayer(ctx, d, l)
		})
		if err != nil {
			return err
		}
		d.Config.Layers[i] = containerconfig.Describe(layer, containerconfig.FileName(fileOf(layer.Digest)))
	}
	text, err := json.MarshalIndent(d.Config, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", d, err)
	}
	return writeFile(filepath.Join(in.dir, documentName(d.Name)), append(text, '\n'))
}

// documentName is the last component of a file or URL.
func documentName(source string) string {
	if isURL(source) {
		source, _, _ = strings.Cut(source, "?")
		return path.Base(source)
	}
	return filepath.Base(localPath(source))
}

// layer takes in one archive, which must be what the document says of it.
func (in importer) layer(ctx context.Context, name string, l containerconfig.Layer, open func() (io.ReadCloser, int64, error)) (augment.Layer, error) {
	layer, err := in.take(ctx, name, l, open)
	if err != nil {
		return augment.Layer{}, fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(in.log, "%s\n  digest %s\n  size   %d\n  diffID %s\n", filepath.Join(in.dir, fileOf(layer.Digest)), layer.Digest, layer.Size, layer.DiffID)
	return layer, nil
}

func (in importer) take(ctx context.Context, name string, l containerconfig.Layer, open func() (io.ReadCloser, int64, error)) (augment.Layer, error) {
	want, err := l.Expected("layer")
	if err != nil {
		return augment.Layer{}, err
	}
	r, size, err := open()
	if err != nil {
		return augment.Layer{}, err
	}
	defer r.Close()
	shown, done := withProgress(r, in.log, name, size)
	defer done()
	layers := assemble.NewLayers(archiveDir(in.dir), nil, nil, in.dir, math.MaxInt64-1)
	return layers.Local(ctx, &limitedReader{r: shown, left: maxImport}, name, want)
}

// limitedReader fails when more than left bytes are read.
type limitedReader struct {
	r    io.Reader
	left int64
}

func (l *limitedReader) Read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	if l.left -= int64(n); l.left < 0 {
		return n, fmt.Errorf("larger than %s", formatSize(maxImport))
	}
	return n, err
}

// archiveDir is a store of archives as files that people can carry to a server.
type archiveDir string

func fileOf(d digest.Digest) string { return d.Encoded() + ".tar.gz" }

func (dir archiveDir) Open(_ context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	return os.Open(filepath.Join(string(dir), fileOf(d)))
}

// Put writes an archive, also over a file of the same name, which may be damaged.
func (dir archiveDir) Put(_ context.Context, d digest.Digest, r io.Reader) error {
	return writeFrom(filepath.Join(string(dir), fileOf(d)), &verified{r, d.Verifier()})
}

// Verify looks for the file only, because Put writes every archive anew.
func (dir archiveDir) Verify(_ context.Context, d digest.Digest) error {
	_, err := os.Stat(filepath.Join(string(dir), fileOf(d)))
	return err
}

// verified ends with an error unless all that was read has the digest.
type verified struct {
	r   io.Reader
	sum digest.Verifier
}

func (v *verified) Read(p []byte) (int, error) {
	n, err := v.r.Read(p)
	_, _ = v.sum.Write(p[:n])
	if errors.Is(err, io.EOF) && !v.sum.Verified() {
		err = errors.New("the bytes have changed while they were read")
	}
	return n, err
}
