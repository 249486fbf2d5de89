package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/pelletier/go-toml/v2"
)

// containerdFile is the name of containerd's configuration, which is beside its certs.d
// in every distribution, K3s included.
const containerdFile = "config.toml"

// The plugins that pull images for Kubernetes: up to containerd 1, in files of version
// 2 or 1, and from containerd 2 on, in files of version 3.
const (
	criPlugin    = "io.containerd.grpc.v1.cri"
	oldCRIPlugin = "cri"
	imagesPlugin = "io.containerd.cri.v1.images"
)

// containerdConfig has what containerd's configuration says of registries.
type containerdConfig struct {
	Version int      `toml:"version"`
	Imports []string `toml:"imports"`
	Plugins map[string]struct {
		Registry struct {
			ConfigPath *string        `toml:"config_path"`
			Mirrors    map[string]any `toml:"mirrors"`
			Configs    map[string]any `toml:"configs"`
		} `toml:"registry"`
	} `toml:"plugins"`
}

// readContainerd returns what a file and its imports say, an import over what comes
// before it. Errors are those of reading the file, or say where it is wrong.
func readContainerd(file string) (*containerdConfig, error) {
	var c containerdConfig
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	if err := toml.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, pattern := range c.Imports {
		if !filepath.IsAbs(pattern) {
			pattern = filepath.Join(filepath.Dir(file), pattern)
		}
		names, err := filepath.Glob(pattern)
		if err != nil {
			return nil, fmt.Errorf("%s: imports %q: %w", file, pattern, err)
		}
		for _, name := range names {
			data, err := os.ReadFile(name)
			if err != nil {
				return nil, err
			}
			var imported containerdConfig
			if err := toml.Unmarshal(data, &imported); err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			c.merge(&imported)
		}
	}
	return &c, nil
}

func (c *containerdConfig) merge(imported *containerdConfig) {
	if c.Plugins == nil {
		c.Plugins = imported.Plugins
		return
	}
	for name, from := range imported.Plugins {
		p := c.Plugins[name]
		if from.Registry.ConfigPath != nil {
			p.Registry.ConfigPath = from.Registry.ConfigPath
		}
		if from.Registry.Mirrors != nil {
			p.Registry.Mirrors = from.Registry.Mirrors
		}
		if from.Registry.Configs != nil {
			p.Registry.Configs = from.Registry.Configs
		}
		c.Plugins[name] = p
	}
}

// problems returns the reasons for which containerd would not read the hosts.toml files
// in a directory, each with a remedy.
func (c *containerdConfig) problems(dir string) (found []string) {
	read, ignored := []string{criPlugin, oldCRIPlugin}, imagesPlugin
	if c.Version >= 3 {
		read, ignored = []string{imagesPlugin}, criPlugin
	}
	path := ""
	for _, name := range read {
		r := c.Plugins[name].Registry
		if r.ConfigPath != nil {
			path = cmp.Or(*r.ConfigPath, path)
		}
		for member, has := range map[string]bool{"mirrors": len(r.Mirrors) > 0, "configs": len(r.Configs) > 0} {
			if has {
				found = append(found, fmt.Sprintf("registry.%s contradicts config_path, and containerd 1 does not serve Kubernetes with both: remove it", member))
			}
		}
	}
	slices.Sort(found)
	setting := fmt.Sprintf("set config_path = %q under [plugins.%q.registry], and restart containerd", dir, read[0])
	misplaced := c.Plugins[ignored].Registry.ConfigPath
	switch list := filepath.SplitList(path); {
	case path == "" && misplaced != nil && *misplaced != "":
		found = append(found, fmt.Sprintf("in a file of version %d, containerd does not read plugins.%q, so it looks for no hosts.toml: %s", max(c.Version, 1), ignored, setting))
	case path == "":
		found = append(found, "config_path is not set, so containerd looks for no hosts.toml: "+setting)
	case len(list) > 1:
		found = append(found, fmt.Sprintf("config_path %q is a list, and containerd 2.2 and later then read no hosts.toml at all: %s", path, setting))
	case filepath.Clean(path) != filepath.Clean(dir):
		found = append(found, fmt.Sprintf("containerd looks for hosts.toml in %s, and not in %s: give --dir %[1]s, or %[3]s", path, dir, setting))
	}
	return found
}

// warnContainerd returns warnings about the configuration of the machine's containerd.
// Without a named file it looks for the one beside the directory, unless that is a relative
// one: its files are for other machines.
func warnContainerd(file, dir string) ([]string, error) {
	named := file != ""
	if !named && !filepath.IsAbs(dir) {
		return nil, nil
	}
	file = cmp.Or(file, filepath.Join(filepath.Dir(filepath.Clean(dir)), containerdFile))
	c, err := readContainerd(file)
	if !named && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--containerd-config: %w", err)
	}
	if named {
		if dir, err = filepath.Abs(dir); err != nil {
			return nil, err
		}
	}
	var warnings []string
	for _, problem := range c.problems(dir) {
		warnings = append(warnings, file+": "+problem)
	}
	return warnings, nil
}
