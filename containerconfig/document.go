package containerconfig

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/waveproxy/waveproxy/internal/jsonlimit"
	"github.com/waveproxy/waveproxy/upstream"
)

// MaxDocument is the size of the largest document that is read, in bytes.
const MaxDocument = 1 << 20

// maxElements bounds the elements of a document. It may have as many as a request
// with a container config.
const maxElements = 1 << 15

// AnyArch in the name of a document stands for each of Architectures.
const AnyArch = "{arch}"

// Architectures are the values of AnyArch.
var Architectures = []string{"amd64", "arm64"}

// filePrefix begins the names of documents in files.
const filePrefix = "file:"

// Document is a container config in a file or at a URL. Fusion is published as
// one for each architecture.
type Document struct {
	Name   string // a URL, or "file:" and a path
	Arch   string // the architecture in AnyArch's place; empty without AnyArch
	Config Config
	// Text is the document as Read has read it; nil if only Parse has seen it.
	Text []byte

	// wanted is the index of the name that stands for this document in the call of
	// Expand. Documents of one name are the same but for the architecture.
	wanted int
}

// Opener opens what a Document's name names.
type Opener func(ctx context.Context, name string) (io.ReadCloser, error)

// Expand returns the documents that the names stand for, unread: one with AnyArch
// in its name stands for one document for each of arches.
func Expand(names, arches []string) []Document {
	var documents []Document
	for i, name := range names {
		if !strings.Contains(name, AnyArch) {
			documents = append(documents, Document{Name: name, wanted: i})
			continue
		}
		for _, arch := range arches {
			documents = append(documents, Document{Name: strings.ReplaceAll(name, AnyArch, arch), Arch: arch, wanted: i})
		}
	}
	return documents
}

// FileName returns the name of a document in a file.
func FileName(path string) string { return filePrefix + path }

// Path returns the path of a document in a file. ok is false for one at a URL.
func (d Document) Path() (path string, ok bool) { return strings.CutPrefix(d.Name, filePrefix) }

// String returns the path or the redacted URL, for messages.
func (d Document) String() string {
	if path, ok := d.Path(); ok {
		return path
	}
	return upstream.RedactURL(d.Name)
}

// Read reads and parses the document. An error of open is returned as it is;
// others name the document.
func (d *Document) Read(ctx context.Context, open Opener) error {
	r, err := open(ctx, d.Name)
	if err != nil {
		return err
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, MaxDocument+1))
	if err != nil {
		return fmt.Errorf("read %s: %w", d, err)
	}
	if err := d.Parse(text); err != nil {
		return err
	}
	d.Text = text
	return nil
}

// Parse sets Config to what the text says. The text must add something: a JSON
// object of another kind, which has none of the members, is most likely a mistake.
func (d *Document) Parse(text []byte) error {
	config, err := parse(text)
	if err != nil {
		return fmt.Errorf("%s is not a container config: %w", d, err)
	}
	d.Config = config
	return nil
}

func parse(text []byte) (c Config, err error) {
	if len(text) > MaxDocument {
		return c, fmt.Errorf("it is larger than %d bytes", MaxDocument)
	}
	if err := jsonlimit.Check(text, maxElements); err != nil {
		return c, err
	}
	if err := json.Unmarshal(text, &c); err != nil {
		return c, err
	}
	if len(c.Layers)+len(c.Env)+len(c.ExtendEnv)+len(c.Certificates)+len(c.Entrypoint)+len(c.Cmd)+len(c.WorkingDir) == 0 {
		return c, errors.New("it adds nothing")
	}
	return c, nil
}

// LayerPath returns the path of a layer that is a file, and ok false for another
// location. Paths are relative to the document, which must be a file itself:
// otherwise a document from the network could name any file of this machine.
func (d Document) LayerPath(l Layer) (path string, ok bool, err error) {
	path, ok = strings.CutPrefix(l.Location, filePrefix)
	if !ok {
		return "", false, nil
	}
	own, isFile := d.Path()
	if !isFile {
		return "", true, errors.New("location names a file, which only a document that is a file itself may do")
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(filepath.Dir(own), path)
	}
	return path, true, nil
}
