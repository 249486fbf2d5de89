package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/recipes"
)

// maxImport is the size of the largest archive that is imported.
const maxImport = 16 << 30

func layerImportCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "import FILE|URL",
		Short: "Fetch layers into a directory, for a server that cannot",
		Long: "Fetch a layer archive, or a container config (.json) and the layers that it names, check\n" +
			"them, and write them to a directory. It can be carried to a server without a way to\n" +
			"the internet, whose configuration then names files instead of URLs: what to write\n" +
			"there is printed. {arch} in the name of a container config stands for amd64 and arm64.",
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
		layer, err := in.layer(cmd.Context(), redact(args[0]), api.ContainerLayer{}, func() (io.ReadCloser, int64, error) {
			return open(cmd.Context(), strings.TrimPrefix(args[0], "file:"))
		})
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "layers:\n  - path: %q\n", filepath.Join(*dir, fileOf(layer.Digest)))
		return err
	}
	return cmd
}

// fusionLayer is the name of a layer at a URL that tells servers what it is for.
var fusionLayer = regexp.MustCompile(`/fusion-\w+\.tar\.gz$`)

// importer writes layers to a directory, under their digests.
type importer struct {
	dir string
	log io.Writer
}

// documents imports documents with their layers, and prints what a recipe has to
// say to use them. A document is written when all of its layers are there.
func (in importer) documents(ctx context.Context, out io.Writer, source string) error {
	if strings.Contains(source, recipes.AnyArch) && !strings.Contains(documentName(source), recipes.AnyArch) {
		return fmt.Errorf("%s: %s is not in the name of the file, so the documents would take each other's place: import them one by one, each with a --dir of its own", redact(source), recipes.AnyArch)
	}
	found, err := readDocuments(ctx, source, recipes.Architectures)
	if err != nil {
		return err
	}
	for _, d := range found {
		for i, l := range d.config.Layers {
			if name := fusionLayer.FindString(l.Location); name != "" && d.arch == "" && isURL(l.Location) {
				return fmt.Errorf("%s: layer %d is %s: a file does not say which architecture it is for, so write %s in the name of the container config", &d, i+1, name, recipes.AnyArch)
			}
			layer, err := in.layer(ctx, fmt.Sprintf("%s: layer %d", &d, i+1), l, func() (io.ReadCloser, int64, error) {
				return d.openLayer(ctx, l.Location)
			})
			if err != nil {
				return err
			}
			d.config.Layers[i] = api.ContainerLayer{
				Location:   "file:" + fileOf(layer.Digest),
				GzipDigest: layer.Digest.String(), GzipSize: api.Size(layer.Size), TarDigest: layer.DiffID.String(),
			}
		}
		text, err := json.MarshalIndent(d.config, "", "  ")
		if err != nil {
			return fmt.Errorf("encode %s: %w", &d, err)
		}
		if err := writeFile(filepath.Join(in.dir, documentName(d.source)), append(text, '\n')); err != nil {
			return err
		}
	}
	_, err = fmt.Fprintf(out, "container_config_url: %q\n", "file:"+filepath.Join(in.dir, documentName(source)))
	return err
}

// documentName is the last component of a file or URL.
func documentName(source string) string {
	if isURL(source) {
		source, _, _ = strings.Cut(source, "?")
		return path.Base(source)
	}
	return filepath.Base(source)
}

// layer takes in one archive. What the layer is said to be must be true.
func (in importer) layer(ctx context.Context, name string, want api.ContainerLayer, open func() (io.ReadCloser, int64, error)) (augment.Layer, error) {
	layer, err := in.take(ctx, name, want, open)
	if err != nil {
		return augment.Layer{}, fmt.Errorf("%s: %w", name, err)
	}
	fmt.Fprintf(in.log, "%s\n  digest %s\n  size   %d\n  diffID %s\n", filepath.Join(in.dir, fileOf(layer.Digest)), layer.Digest, layer.Size, layer.DiffID)
	return layer, nil
}

func (in importer) take(ctx context.Context, name string, want api.ContainerLayer, open func() (io.ReadCloser, int64, error)) (layer augment.Layer, err error) {
	r, size, err := open()
	if err != nil {
		return layer, err
	}
	defer r.Close()
	spool, err := os.CreateTemp(in.dir, tempPattern)
	if err != nil {
		return layer, err
	}
	defer spool.Close()
	if err := os.Remove(spool.Name()); err != nil { // the open file needs no name, and a crash leaves nothing
		return layer, err
	}
	shown, done := withProgress(r, in.log, name, size)
	n, err := io.Copy(spool, io.LimitReader(shown, maxImport+1))
	done()
	switch {
	case err != nil:
		return layer, err
	case n > maxImport:
		return layer, fmt.Errorf("larger than %s", formatSize(maxImport))
	}
	if _, err := spool.Seek(0, io.SeekStart); err != nil {
		return layer, err
	}
	found, err := augment.Inspect(ctx, spool, augment.DefaultLimits)
	if err != nil {
		return layer, err
	}
	for _, check := range []struct{ member, want, found string }{
		{"gzipDigest", want.GzipDigest, found.Digest.String()},
		{"tarDigest", want.TarDigest, found.DiffID.String()},
		{"gzipSize", sizeOrNone(int64(want.GzipSize)), sizeOrNone(found.Size)},
	} {
		if check.want != "" && check.want != check.found {
			return layer, fmt.Errorf("%s: expected %s, found %s", check.member, check.want, check.found)
		}
	}
	return augment.Keep(ctx, archiveDir(in.dir), spool, found)
}

func sizeOrNone(n int64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprint(n)
}

// archiveDir keeps archives as files that people can carry about.
type archiveDir string

func fileOf(d digest.Digest) string { return d.Encoded() + ".tar.gz" }

func (dir archiveDir) Open(_ context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	return os.Open(filepath.Join(string(dir), fileOf(d)))
}

// Put writes an archive, in place of one that may have been damaged since.
func (dir archiveDir) Put(_ context.Context, d digest.Digest, r io.Reader) error {
	return writeFrom(filepath.Join(string(dir), fileOf(d)), &verified{r, d.Verifier()})
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
