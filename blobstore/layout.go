package blobstore

import (
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
)

const (
	untilName    = "until"
	recordSuffix = ".record"
	dayLayout    = "2006-01-02"
)

// Until returns the beginning of the names of records that may be forgotten once the
// time has come. It is a day: the first one, in UTC, that begins after the time.
func Until(end time.Time) string {
	return untilName + "/" + end.UTC().Truncate(24*time.Hour).Add(24*time.Hour).Format(dayLayout) + "/"
}

// dayOf returns the day in the name of a record that may be forgotten, and the rest of
// the name. ok is false for any other record.
func dayOf(name string) (day, rest string, ok bool) {
	rest, ok = strings.CutPrefix(name, untilName+"/")
	if !ok {
		return "", name, false
	}
	day, rest, _ = strings.Cut(rest, "/")
	return day, rest, true
}

// checkDay returns an error for a name that should have a day and has none.
func checkDay(name string) error {
	day, rest, ok := dayOf(name)
	if !ok {
		return nil
	}
	if _, err := time.Parse(dayLayout, day); err != nil || rest == "" {
		return fmt.Errorf("invalid record name %q: want until/2006-01-02/name", name)
	}
	return nil
}

// blobPath returns the path of a blob that many images may share. The digest has been
// checked, which keeps the path in the tree.
func (d *Dir) blobPath(dgst digest.Digest) string { return d.pathOf(blobKey(dgst)) }

// dayBlobPath returns the path of a blob that belongs to records of a day.
func (d *Dir) dayBlobPath(day string, dgst digest.Digest) string {
	return d.pathOf(dayBlobKey(day, dgst))
}

// recordPath returns the path of a record, whose name has been checked.
func (d *Dir) recordPath(name string) string { return d.pathOf(recordKey(name)) }

func (d *Dir) pathOf(key string) string { return filepath.Join(d.path, filepath.FromSlash(key)) }

// Keys are paths below the store, with slashes. A bucket has the same as a directory, so
// that a store is moved by copying it.

func blobKey(dgst digest.Digest) string { return blobBelow("blobs", dgst) }

func dayBlobKey(day string, dgst digest.Digest) string {
	return blobBelow(untilName+"/"+day+"/blobs", dgst)
}

func blobBelow(dir string, dgst digest.Digest) string {
	hex := dgst.Encoded()
	return path.Join(dir, dgst.Algorithm().String(), hex[:2], hex)
}

// recordKey returns the key of a record, whose name has been checked. The suffix lets
// the records "a" and "a/b" exist side by side. Those of a day are many, and are spread
// over directories by the first character of their last element.
func recordKey(name string) string {
	day, rest, ok := dayOf(name)
	if !ok {
		return "records/" + name + recordSuffix
	}
	dir, last := path.Split(rest)
	return path.Join(untilName, day, dir, last[:1], last) + recordSuffix
}
