package recipes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/upstream"
)

// documentTimeout is how long reading a document from its URL may take before the
// stored copy is used.
const documentTimeout = 30 * time.Second

// documentRecord is the name of the record with the copy of a document.
func documentRecord(d *containerconfig.Document) string {
	sum := sha256.Sum256([]byte(d.Name))
	return "documents/" + hex.EncodeToString(sum[:])
}

// readAll returns the documents that can be read, and the errors of the others. It
// reads several at once, because without a network each takes its time to fail.
func (l Loader) readAll(ctx context.Context, names []string) (found []containerconfig.Document, failed []error) {
	wanted := containerconfig.Expand(names, containerconfig.Architectures)
	problems := make([]error, len(wanted))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range wanted {
		group.Go(func() error {
			problems[i] = l.read(ctx, &wanted[i])
			return nil // the problems of the others are wanted, too
		})
	}
	_ = group.Wait()
	for i, err := range problems {
		if err != nil {
			failed = append(failed, err)
		} else {
			found = append(found, wanted[i])
		}
	}
	return found, failed
}

// read reads a document from its file or URL. If the URL cannot be read, it uses
// the copy that keep has stored.
func (l Loader) read(ctx context.Context, d *containerconfig.Document) error {
	if _, isFile := d.Path(); isFile {
		return d.Read(ctx, l.openDocument)
	}
	err := func() error {
		ctx, cancel := context.WithTimeout(ctx, documentTimeout)
		defer cancel()
		return d.Read(ctx, l.openDocument)
	}()
	if err == nil || ctx.Err() != nil {
		return err
	}
	kept, missing := l.Records.Record(ctx, documentRecord(d))
	switch {
	case errors.Is(missing, fs.ErrNotExist):
		return err
	case missing != nil:
		return fmt.Errorf("%w; its stored copy: %v", err, missing) //nolint:errorlint // that there is no copy must not look as if the document did not exist
	}
	if broken := d.Parse(kept); broken != nil {
		return err
	}
	l.Log.WarnContext(ctx, "container config unreadable, using the stored copy", "url", d.String(), "error", err)
	return nil
}

// openDocument opens the file or URL of a document.
func (l Loader) openDocument(ctx context.Context, name string) (io.ReadCloser, error) {
	if path, ok := (containerconfig.Document{Name: name}).Path(); ok {
		return os.Open(path)
	}
	body, _, err := l.Upstream.Fetch(ctx, name)
	if err != nil {
		return nil, documentError(err)
	}
	return documentBody{body}, nil
}

// documentBody is the body of a document at a URL, with the errors of one.
type documentBody struct{ io.ReadCloser }

func (b documentBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	return n, documentError(err)
}

// documentError returns an error of the upstream as one about a document: the
// upstream calls everything that it fetches from a URL a layer.
func documentError(err error) error {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return err
	}
	named := *e
	named.Op = "fetch"
	return &named
}

// keep stores the documents of a good recipe that were read from their URLs, so
// that a server can start without the network.
func (l Loader) keep(ctx context.Context, found []containerconfig.Document) {
	for _, d := range found {
		if _, isFile := d.Path(); isFile || d.Text == nil {
			continue
		}
		if err := l.Records.PutRecord(ctx, documentRecord(&d), d.Text); err != nil {
			l.Log.WarnContext(ctx, "cannot store a copy of a container config, so the recipe needs its URL at the next start", "url", d.String(), "error", err)
		}
	}
}
