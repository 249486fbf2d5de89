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
	// writtenBy is the first line of every hosts.toml that this command writes.
	writtenBy = "# Written by waveproxy hosts."
	// hostsFile and caFile are the files in a registry's directory. containerd uses
	// only certificates in *.crt without being told, so caFile has another ending.
	hostsFile = "hosts.toml"
	caFile    = "waveproxy-ca.pem"
)

// hostsTree is containerd's config_path, with the registries in it that are
// reached through a server. Files that this command did not write stay as they
// are.
type hostsTree struct {
	mirror
	dir        string
	registries []string
	force      bool                   // replace files that this command did not write
	readCA     func() ([]byte, error) // the server's authority; nil bytes for none
}

// write brings all files up to date and prints each one it changed. If any of
// them was not written by this command it writes none.
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

// vacant returns an error if the file of a registry must not be written.
func (t *hostsTree) vacant(registry string) error {
	// containerd looks for registry.local_5000_ before registry.local:5000.
	if i := strings.LastIndexByte(registry, ':'); i > 0 {
		preferred := filepath.Join(t.dir, registry[:i]+"_"+registry[i+1:]+"_")
		if _, err := os.Stat(preferred); err == nil {
			return fmt.Errorf("%s: containerd would read it instead of %s: remove it", preferred, registry)
		}
	}
	dir := filepath.Join(t.dir, registry)
	own, err := isOwn(dir)
	switch {
	case err == nil && (own || t.force):
		return nil
	case err == nil:
		return fmt.Errorf("%s was not written by this command: remove it, or replace it with --force", filepath.Join(dir, hostsFile))
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	certificates, _ := filepath.Glob(filepath.Join(dir, "*.c*rt")) // .crt and .cert; the pattern is valid
	if len(certificates) > 0 && !t.force {
		return fmt.Errorf("%s: containerd would no longer read it beside a hosts.toml: write that by hand, or use --force", certificates[0])
	}
	return nil
}

// isOwn reports whether this command wrote the hosts.toml in a directory. Without
// one it fails with fs.ErrNotExist.
func isOwn(dir string) (bool, error) {
	data, err := os.ReadFile(filepath.Join(dir, hostsFile))
	return bytes.HasPrefix(data, []byte(writtenBy)), err
}

// remove deletes the files that this command wrote, and then empty directories,
// because containerd prefers an empty directory to _default.
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

// watch writes the files, and writes them again when they change, until ctx ends. It
// fails if the first write does; it reports later failures once, and tries again.
func (t *hostsTree) watch(ctx context.Context, tick <-chan time.Time, remove bool, out, errs io.Writer) error {
	if err := t.write(out); err != nil {
		return err
	}
	reported := ""
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
		if now != reported && now != "" {
			fmt.Fprintf(errs, "waveproxy: %s\n", now)
		}
		reported = now
	}
}

// replace writes a file unless it already has these bytes.
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
