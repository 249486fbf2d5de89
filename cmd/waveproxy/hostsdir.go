package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	// writtenBy is the first line of every hosts.toml that is ours.
	writtenBy = "# Written by waveproxy hosts."
	// hostsFile and caFile are in a directory by registry. containerd takes
	// certificates by themselves from names that end in .crt only.
	hostsFile = "hosts.toml"
	caFile    = "waveproxy-ca.pem"
)

// hostsTree is a directory of containerd's, with the registries in it that are to
// be reached through a server. What others put there stays as it is.
type hostsTree struct {
	mirror
	dir        string
	registries []string
	force      bool                   // replace what others have written
	readCA     func() ([]byte, error) // nil for no authority of the server's own
}

// write makes the files what they are to be and prints those that were not. It
// writes none if one of them cannot be ours.
func (t *hostsTree) write(out io.Writer) error {
	ca, err := t.readCA()
	if err != nil {
		return err
	}
	for _, registry := range t.registries {
		err = errors.Join(err, t.vacant(registry))
	}
	if err != nil {
		return err
	}
	for _, registry := range t.registries {
		dir := filepath.Join(t.dir, registry)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// The settings name the certificate, so it comes first and goes last.
		if ca != nil {
			err = replace(out, filepath.Join(dir, caFile), ca)
		}
		err = errors.Join(err, replace(out, filepath.Join(dir, hostsFile), t.file(registry, ca != nil)))
		if ca == nil {
			err = errors.Join(err, discard(out, filepath.Join(dir, caFile)))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// vacant tells why the file of a registry must not be written.
func (t *hostsTree) vacant(registry string) error {
	// containerd looks for registry.local_5000_ before registry.local:5000.
	if i := strings.LastIndexByte(registry, ':'); i > 0 {
		before := filepath.Join(t.dir, registry[:i]+"_"+registry[i+1:]+"_")
		if _, err := os.Stat(before); err == nil {
			return fmt.Errorf("%s: containerd would read it instead of %s: remove it", before, registry)
		}
	}
	dir := filepath.Join(t.dir, registry)
	own, err := isOwn(dir)
	switch {
	case err == nil && (own || t.force):
		return nil
	case err == nil:
		return fmt.Errorf("%s is not this command's: remove it, or replace it with --force", filepath.Join(dir, hostsFile))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	certificates, _ := filepath.Glob(filepath.Join(dir, "*.c*rt")) // .crt and .cert; the pattern is valid
	if len(certificates) > 0 && !t.force {
		return fmt.Errorf("%s: containerd would no longer read it beside a hosts.toml: write that by hand, or use --force", certificates[0])
	}
	return nil
}

// isOwn tells whether the hosts.toml in a directory was written here. It fails
// with fs.ErrNotExist where there is none.
func isOwn(dir string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, hostsFile))
	return bytes.HasPrefix(data, []byte(writtenBy)), err
}

// remove deletes what was written, and directories that are empty then: for
// containerd an empty one stands before _default.
func (t *hostsTree) remove(out io.Writer) error {
	registries := t.registries
	if len(registries) == 0 {
		entries, err := os.ReadDir(t.dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, e := range entries {
			if e.IsDir() {
				registries = append(registries, e.Name())
			}
		}
	}
	var failed error
	for _, registry := range registries {
		dir := filepath.Join(t.dir, registry)
		own, err := isOwn(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			failed = errors.Join(failed, err)
		}
		if !own {
			continue
		}
		failed = errors.Join(failed, discard(out, filepath.Join(dir, hostsFile)), discard(out, filepath.Join(dir, caFile)))
		leftovers, _ := filepath.Glob(filepath.Join(dir, tempPattern)) // the pattern is valid
		for _, name := range leftovers {
			failed = errors.Join(failed, discard(out, name))
		}
		_ = os.Remove(dir) // fails if others have something in it
	}
	return failed
}

// watch writes the files, and again whatever is changed, until ctx ends. It fails
// if they cannot be written at first; later on it says so, and tries again.
func (t *hostsTree) watch(ctx context.Context, tick <-chan time.Time, remove bool, out, errs io.Writer) error {
	if err := t.write(out); err != nil {
		return err
	}
	said := ""
	for {
		select {
		case <-ctx.Done():
			if remove {
				return t.remove(out)
			}
			return nil
		case <-tick:
		}
		now := ""
		if err := t.write(out); err != nil {
			now = err.Error()
		}
		if now != said && now != "" {
			fmt.Fprintf(errs, "waveproxy: %s\n", now)
		}
		said = now
	}
}

// replace writes a file unless it has these bytes.
func replace(out io.Writer, path string, data []byte) error {
	if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, data) {
		return nil
	}
	if err := writeFile(path, data); err != nil {
		return err
	}
	fmt.Fprintln(out, "wrote", path)
	return nil
}

// discard deletes a file if there is one.
func discard(out io.Writer, path string) error {
	err := os.Remove(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		fmt.Fprintln(out, "removed", path)
	}
	return err
}
