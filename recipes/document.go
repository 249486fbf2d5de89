package recipes

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/waveproxy/waveproxy/api"
	"github.com/waveproxy/waveproxy/upstream"
)

const (
	// maxDocument is the size of the largest document, in bytes.
	maxDocument = 1 << 20
	// documentTimeout is how long reading one may take before the one that was
	// kept is used.
	documentTimeout = 30 * time.Second
)

// document is a container config: what to add to an image, in the form that
// clients of the API have it in. Fusion is published as one for each
// architecture.
type document struct {
	name    string // its URL or "file:" and its path
	arch    string // that stood for {arch}; empty without
	group   int    // those of one group differ in arch alone
	config  api.ContainerConfig
	fetched []byte // as it was at the URL now; nil for others
}

// String is what messages call the document.
func (d document) String() string {
	if path, ok := FilePath(d.name); ok {
		return path
	}
	return upstream.RedactURL(d.name)
}

// record is where the document is kept.
func (d document) record() string {
	sum := sha256.Sum256([]byte(d.name))
	return "documents/" + hex.EncodeToString(sum[:])
}

func (d *document) parse(text []byte) error {
	d.config = api.ContainerConfig{}
	if err := json.Unmarshal(text, &d.config); err != nil {
		return fmt.Errorf("%s is not a container config: %w", d, err)
	}
	c := d.config
	if len(c.Layers)+len(c.Env)+len(c.Entrypoint)+len(c.Cmd)+len(c.WorkingDir) == 0 {
		return fmt.Errorf("%s is not a container config: it adds nothing", d)
	}
	return nil
}

// readAll reads the documents that can be read, and says why others cannot. It
// waits for all of them at once: without a network each takes its time to fail.
func (l Loader) readAll(ctx context.Context, names []string) (found []document, failed []error) {
	var wanted []document
	for i, name := range names {
		for j, expanded := range Expand(name) {
			d := document{name: expanded, group: i}
			if expanded != name {
				d.arch = Architectures[j]
			}
			wanted = append(wanted, d)
		}
	}
	problems := make([]error, len(wanted))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i := range wanted {
		group.Go(func() error {
			problems[i] = l.read(ctx, &wanted[i])
			return nil // the others' problems are wanted, too
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

// read reads a document from its file or URL. One that cannot be read from its
// URL now is what was kept of it.
func (l Loader) read(ctx context.Context, d *document) error {
	if path, ok := FilePath(d.name); ok {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		text, err := readBounded(f)
		if err != nil {
			return fmt.Errorf("%s: %w", d, err)
		}
		return d.parse(text)
	}
	text, err := l.fetch(ctx, d)
	if err == nil {
		err = d.parse(text)
	}
	if err == nil {
		d.fetched = text
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	kept, missing := l.Records.Record(ctx, d.record())
	switch {
	case errors.Is(missing, fs.ErrNotExist):
		return err
	case missing != nil:
		return fmt.Errorf("%w; what was kept of it: %v", err, missing)
	}
	if broken := d.parse(kept); broken != nil {
		return err
	}
	l.Log.WarnContext(ctx, "a container config cannot be read: what it was before is used", "url", d.String(), "error", err)
	return nil
}

func (l Loader) fetch(ctx context.Context, d *document) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, documentTimeout)
	defer cancel()
	body, _, err := l.Upstream.Fetch(ctx, d.name)
	if err != nil {
		return nil, asDocument(err)
	}
	defer body.Close()
	text, err := readBounded(body)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", d, asDocument(err))
	}
	return text, nil
}

// asDocument is an error about a document: the upstream takes all that is at
// URLs for layers.
func asDocument(err error) error {
	e, ok := errors.AsType[*upstream.Error](err)
	if !ok {
		return err
	}
	named := *e
	named.Op = "fetch"
	return &named
}

func readBounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxDocument+1))
	if err == nil && len(text) > maxDocument {
		err = fmt.Errorf("larger than %d bytes: it is not a container config", maxDocument)
	}
	return text, err
}

// keep keeps the documents of a recipe that is good, for a start without the
// network.
func (l Loader) keep(ctx context.Context, found []document) {
	for _, d := range found {
		if d.fetched == nil {
			continue
		}
		if err := l.Records.PutRecord(ctx, d.record(), d.fetched); err != nil {
			l.Log.WarnContext(ctx, "a container config cannot be kept", "url", d.String(), "error", err)
		}
	}
}

// merge returns what the documents say together, without their layers, and what
// they contradict each other in.
func merge(found []document) (api.ContainerConfig, []error) {
	var all api.ContainerConfig
	var conflicts []error
	for i, d := range found {
		for _, before := range found[:i] {
			if err := agree(before, d); err != nil {
				conflicts = append(conflicts, err)
			}
		}
		for _, e := range d.config.Env {
			if !slices.Contains(all.Env, e) {
				all.Env = append(all.Env, e)
			}
		}
		all.Entrypoint = given(all.Entrypoint, d.config.Entrypoint)
		all.Cmd = given(all.Cmd, d.config.Cmd)
		if all.WorkingDir == "" {
			all.WorkingDir = d.config.WorkingDir
		}
	}
	return all, conflicts
}

// agree reports a member that two documents have different values of. Layers are
// for one architecture, but an entrypoint is for all of them: the documents of
// one group must say the same, and not nothing either.
func agree(a, b document) error {
	siblings := a.group == b.group
	differ := func(x, y []string) bool {
		return !slices.Equal(x, y) && (siblings || len(x) > 0 && len(y) > 0)
	}
	for _, member := range []struct {
		name string
		a, b []string
	}{
		{"entrypoint", a.config.Entrypoint, b.config.Entrypoint},
		{"cmd", a.config.Cmd, b.config.Cmd},
		{"workingDir", words(a.config.WorkingDir), words(b.config.WorkingDir)},
	} {
		if differ(member.a, member.b) {
			return fmt.Errorf("%s and %s do not agree: %s is %q and %q", a, b, member.name, member.a, member.b)
		}
	}
	if siblings && !slices.Equal(a.config.Env, b.config.Env) {
		return fmt.Errorf("%s and %s do not agree: env differs", a, b)
	}
	for _, e := range a.config.Env {
		key, value, _ := strings.Cut(e, "=")
		for _, other := range b.config.Env {
			if k, v, _ := strings.Cut(other, "="); k == key && v != value {
				return fmt.Errorf("%s and %s do not agree: env has different values of %s", a, b, key)
			}
		}
	}
	return nil
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}
