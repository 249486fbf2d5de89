package main

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

// TestContainerdConfig: "hosts" says for which reasons containerd would not read its
// files, and nothing where it would.
func TestContainerdConfig(t *testing.T) {
	const dir = "/etc/containerd/certs.d"
	for name, test := range map[string]struct {
		text string
		want []string // parts of the warnings, in order
	}{
		"version 2":       {"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"", nil},
		"version 3":       {"version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d/'", nil},
		"version 4":       {"version = 4\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'", nil},
		"version 1":       {"[plugins.cri.registry]\nconfig_path = \"/etc/containerd/certs.d\"", nil},
		"other plugins":   {"version = 3\n[plugins.'io.containerd.gc.v1.scheduler']\nstartup_delay = '1s'\n[plugins.'io.containerd.cri.v1.images']\nsnapshotter = 'overlayfs'\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'", nil},
		"empty file":      {"", []string{"config_path is not set"}},
		"empty path":      {"version = 4\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''", []string{"config_path is not set"}},
		"list":            {"version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d:/etc/docker/certs.d'", []string{"is a list"}},
		"list with dir":   {"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/a:/etc/containerd/certs.d:/b\"", []string{"is a list"}},
		"other directory": {"version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/var/lib/rancher/certs.d'", []string{"--dir /var/lib/rancher/certs.d"}},
		"wrong section":   {"version = 3\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"", []string{`does not read plugins."io.containerd.grpc.v1.cri"`}},
		"newer section":   {"version = 2\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/etc/containerd/certs.d'", []string{`does not read plugins."io.containerd.cri.v1.images"`}},
		"mirrors": {"version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".registry]\nconfig_path = \"/etc/containerd/certs.d\"\n[plugins.\"io.containerd.grpc.v1.cri\".registry.mirrors.\"docker.io\"]\nendpoint = [\"https://m\"]\n[plugins.\"io.containerd.grpc.v1.cri\".registry.configs.\"a\".auth]\nusername = \"u\"",
			[]string{"registry.configs contradicts", "registry.mirrors contradicts"}},
	} {
		t.Run(name, func(t *testing.T) {
			file := put(t, filepath.Join(t.TempDir(), "config.toml"), test.text)
			got, err := warnContainerd(file, dir)
			if err != nil || len(got) != len(test.want) {
				t.Fatalf("%d warnings, want %d: %q, %v", len(got), len(test.want), got, err)
			}
			for i, want := range test.want {
				if !strings.Contains(got[i], want) || !strings.HasPrefix(got[i], file+": ") {
					t.Errorf("%q does not say %q", got[i], want)
				}
			}
		})
	}
}

// TestContainerdImports: what a file imports counts, as for containerd.
func TestContainerdImports(t *testing.T) {
	dir := t.TempDir()
	file := put(t, filepath.Join(dir, "config.toml"), "version = 3\nimports = ['conf.d/*.toml']\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = ''")
	put(t, filepath.Join(dir, "conf.d/registry.toml"), "[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/certs.d'")
	if got, err := warnContainerd(file, "/certs.d"); err != nil || len(got) > 0 {
		t.Errorf("%q, %v", got, err)
	}
	put(t, filepath.Join(dir, "conf.d/broken.toml"), "a = ")
	if _, err := warnContainerd(file, "/certs.d"); err == nil || !strings.Contains(err.Error(), "broken.toml") {
		t.Errorf("%v does not name the broken file", err)
	}
	if _, err := warnContainerd(filepath.Join(dir, "absent.toml"), "/certs.d"); err == nil {
		t.Error("no error for a named file that is absent")
	}
}

// TestHostsWarnsOfContainerd: the files are written, and the warning is on stderr.
func TestHostsWarnsOfContainerd(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "config.toml"), "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\nconfig_path = '/a:/b'")
	server := recipeServer(t, "fusion")
	var out, errs bytes.Buffer
	status := run(t.Context(), []string{"hosts", "docker.io", "--recipe", "fusion", "--server", server, "--dir", filepath.Join(dir, "certs.d")}, &out, &errs)
	if status != 0 || !strings.Contains(out.String(), "wrote ") || !strings.Contains(errs.String(), "is a list") {
		t.Errorf("status %d, %q, %q", status, out.String(), errs.String())
	}
}
