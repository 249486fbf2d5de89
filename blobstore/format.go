package blobstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/waveproxy/waveproxy/internal/durable"
)

// formatVersion is the version of the layout. Version 1 is what servers wrote that did
// not know of versions: grants and revocations in records/grants and records/revoked, and
// a file for each blob.
const formatVersion = 2

const formatName = "format"

// formatText is the content of the file format: the version, and when a store of version
// 1 was opened first by a server that writes version 2.
var formatText = regexp.MustCompile(`^waveproxy store (\d+)\n(?:was older until (\S+)\n)?`)

// openFormat reads the version of the store, or makes the file. Two servers may do so at
// once.
func (d *Dir) openFormat() error {
	path := filepath.Join(d.path, formatName)
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = d.writeFormat(path, d.hasBlobs()); err == nil {
			data, err = os.ReadFile(path)
		}
	}
	if err != nil {
		return err
	}
	d.upgraded, err = parseFormat(d.path, path, data)
	return err
}

// parseFormat reads the file format of a store. upgraded is zero if no server of version
// 1 has used it.
func parseFormat(store, path string, data []byte) (upgraded time.Time, err error) {
	m := formatText.FindSubmatch(data)
	if m == nil {
		return upgraded, fmt.Errorf("%s does not begin with the version of the store: %.40q", path, data)
	}
	if version, err := strconv.Atoi(string(m[1])); err != nil || version > formatVersion {
		return upgraded, fmt.Errorf("%s was written by a newer server: it has version %s, and this server knows versions up to %d; start the newer server, or restore a backup of the time before it", store, m[1], formatVersion)
	}
	if len(m[2]) > 0 {
		if upgraded, err = time.Parse(time.RFC3339, string(m[2])); err != nil {
			return upgraded, fmt.Errorf("%s: %w", path, err)
		}
	}
	return upgraded, nil
}

// hasBlobs reports whether a server has used the directory that did not know of versions.
func (d *Dir) hasBlobs() bool {
	_, err := os.Stat(filepath.Join(d.path, "blobs"))
	return err == nil
}

func (d *Dir) writeFormat(path string, older bool) error {
	text := fmt.Sprintf("waveproxy store %d\n", formatVersion)
	if older {
		text += fmt.Sprintf("was older until %s\n", time.Now().UTC().Format(time.RFC3339))
	}
	if err := d.makeDir(d.Staging()); err != nil {
		return err
	}
	f, err := durable.CreateTemp(d.Staging())
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err := f.WriteString(text); err != nil {
		return err
	}
	return durable.Create(f, path)
}

// Older reports whether the store may have records of servers of version 1, or get them
// from such servers that still run.
func (d *Dir) Older() bool { return !d.upgraded.IsZero() }
