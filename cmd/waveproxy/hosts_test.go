package main

import (
	"bytes"
	"context"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// treeOf returns the files below a directory, with directories that are empty.
func treeOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, path)
		if !d.IsDir() {
			data, err := os.ReadFile(path)
			files[name] = string(data)
			return err
		}
		if entries, err := os.ReadDir(path); err != nil || len(entries) == 0 && path != dir {
			files[name+"/"] = ""
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func put(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// command runs a command line that must succeed, and returns its output.
func command(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if status := run(t.Context(), args, &out, &errs); status != 0 {
		t.Fatalf("%v: status %d, %s", args, status, errs.String())
	}
	return out.String()
}

const fallbackFile = `# Written by waveproxy hosts.
# Images come through the recipe "fusion". When the server is down or refuses an
# image, containerd pulls it from the registry itself, WITHOUT what the recipe
# adds. "waveproxy hosts --required" writes a file that refuses that.
server = "https://registry-1.docker.io"

[host."https://wave.example.org/v2/wt/fusion"]
  capabilities = ["pull", "resolve"]
  override_path = true
  dial_timeout = "5s"
`

// requiredFile has an empty table, because containerd 1.6 and 1.7 ignore files
// without a table.
const requiredFile = `# Written by waveproxy hosts.
# Images come through the recipe "fusion" or not at all: when the server is down,
# pulls fail. Without --required containerd would then pull the plain image.
server = "https://wave.example.org/v2/wt/fusion"
capabilities = ["pull", "resolve"]
override_path = true
ca = "waveproxy-ca.pem"

[host]
`

func TestHosts(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	writePair(t, ca, ca+".key", "ca", time.Now())
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		args []string
		want map[string]string
	}{
		"fallback": {[]string{"docker.io"}, map[string]string{"docker.io/hosts.toml": fallbackFile}},
		"all": {[]string{"_default"}, map[string]string{
			"_default/hosts.toml": strings.Replace(fallbackFile, "server = \"https://registry-1.docker.io\"\n\n", "", 1)}},
		"several": {[]string{"quay.io", "registry.local:5000", "localhost:5000"}, map[string]string{
			"quay.io/hosts.toml":             strings.Replace(fallbackFile, "registry-1.docker.io", "quay.io", 1),
			"registry.local:5000/hosts.toml": strings.Replace(fallbackFile, "registry-1.docker.io", "registry.local:5000", 1),
			"localhost:5000/hosts.toml":      strings.Replace(fallbackFile, "server = \"https://registry-1.docker.io\"\n\n", "", 1)}},
		"required": {[]string{"_default", "--required", "--ca", ca}, map[string]string{
			"_default/hosts.toml": requiredFile, "_default/waveproxy-ca.pem": string(pem)}},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			args := append([]string{"hosts", "--no-check", "--recipe", "fusion", "--server", "https://wave.example.org/", "--dir", dir}, test.args...)
			printed := command(t, args...)
			if diff := cmp.Diff(test.want, treeOf(t, dir)); diff != "" {
				t.Errorf("- want, + got:\n%s", diff)
			}
			for file := range test.want {
				if !strings.Contains(printed, "wrote "+filepath.Join(dir, file)+"\n") {
					t.Errorf("printed %q, not that it wrote %s", printed, file)
				}
			}
			if printed := command(t, args...); printed != "" {
				t.Errorf("all was up to date, and it printed %q", printed)
			}
			command(t, "hosts", "--remove", "--dir", dir)
			if left := treeOf(t, dir); len(left) != 0 {
				t.Errorf("left behind: %v", slices.Collect(maps.Keys(left)))
			}
		})
	}
}

func TestHostsRefuses(t *testing.T) {
	hand := "server = \"https://mirror.local\"\n"
	for name, test := range map[string]struct {
		before map[string]string
		args   []string
		says   string
	}{
		"no registry":     {nil, []string{"--recipe", "r"}, "name a registry"},
		"an image":        {nil, []string{"--recipe", "r", "library/busybox"}, "not a registry"},
		"a way out":       {nil, []string{"--recipe", "r", ".."}, "not a registry"},
		"no recipe":       {nil, []string{"docker.io"}, "--recipe"},
		"server":          {nil, []string{"--recipe", "r", "--server", "wave.example.org", "docker.io"}, "--server"},
		"ca of http":      {nil, []string{"--recipe", "r", "--server", "http://h:1", "--ca", "hosts.go", "docker.io"}, "--ca"},
		"ca without one":  {nil, []string{"--recipe", "r", "--server", "https://h:1", "--ca", "hosts.go", "docker.io"}, "no certificate"},
		"absent ca":       {nil, []string{"--recipe", "r", "--server", "https://h:1", "--ca", "/no/such", "docker.io"}, "/no/such"},
		"written by hand": {map[string]string{"quay.io/hosts.toml": hand}, []string{"--recipe", "r", "docker.io", "quay.io"}, "--force"},
		"certificates":    {map[string]string{"quay.io/ca.crt": ""}, []string{"--recipe", "r", "docker.io", "quay.io"}, "ca.crt"},
		"read before":     {map[string]string{"h.local_5000_/ca.crt": ""}, []string{"--recipe", "r", "docker.io", "h.local:5000"}, "h.local_5000_"},
		"a file there":    {map[string]string{"quay.io": ""}, []string{"--recipe", "r", "docker.io", "quay.io"}, "quay.io"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range test.before {
				put(t, filepath.Join(dir, name), text)
			}
			before := treeOf(t, dir)
			var out, errs bytes.Buffer
			if status := run(t.Context(), append([]string{"hosts", "--no-check", "--dir", dir}, test.args...), &out, &errs); status == 0 || !strings.Contains(errs.String(), test.says) {
				t.Errorf("status %d, %q, want text about %s", status, errs.String(), test.says)
			}
			if diff := cmp.Diff(before, treeOf(t, dir)); diff != "" || out.Len() > 0 {
				t.Errorf("printed %q and has changed:\n%s", out.String(), diff)
			}
		})
	}
}

// TestHostsOfOthers: files of other programs are replaced with --force only, and
// never removed.
func TestHostsOfOthers(t *testing.T) {
	dir := t.TempDir()
	put(t, filepath.Join(dir, "quay.io/hosts.toml"), "by hand")
	put(t, filepath.Join(dir, "docker.io/client.cert"), "theirs")
	put(t, filepath.Join(dir, "README"), "theirs")
	args := []string{"hosts", "--no-check", "--dir", dir, "--recipe", "r", "--server", "http://10.0.0.7:9090", "--force", "docker.io"}
	command(t, args...)
	put(t, filepath.Join(dir, "docker.io/.waveproxy-123"), "of a crash")
	command(t, "hosts", "--dir", dir, "--remove")
	want := map[string]string{"quay.io/hosts.toml": "by hand", "docker.io/client.cert": "theirs", "README": "theirs"}
	if diff := cmp.Diff(want, treeOf(t, dir)); diff != "" {
		t.Errorf("- want, + got:\n%s", diff)
	}
	command(t, append(args, "quay.io")...)
	if got := treeOf(t, dir)["quay.io/hosts.toml"]; !strings.HasPrefix(got, writtenBy) {
		t.Errorf("--force leaves %q", got)
	}
	command(t, "hosts", "--dir", dir, "--remove", "quay.io")
	if got := treeOf(t, dir); got["docker.io/hosts.toml"] == "" || got["quay.io/hosts.toml"] != "" {
		t.Errorf("to remove was quay.io, and there is %v", got)
	}
}

// TestHostsWatch runs hosts as on a node: lost files come back, and are removed
// at the end if a flag says so.
func TestHostsWatch(t *testing.T) {
	for _, remove := range []bool{false, true} {
		dir := t.TempDir()
		file := filepath.Join(dir, "docker.io/hosts.toml")
		look := make(chan struct{})
		tree := &hostsTree{dir: dir, registries: []string{"docker.io"}, readCA: func() ([]byte, error) { <-look; return nil, nil }}
		tree.mirror = mirror{server: "http://h:1", recipe: "r"}
		ctx, cancel := context.WithCancel(t.Context())
		tick := make(chan time.Time)
		var out, errs bytes.Buffer
		ended := make(chan error, 1)
		go func() { ended <- tree.watch(ctx, tick, remove, &out, &errs) }()
		// After round, one look at the files has ended, and the next waits.
		round := func() { look <- struct{}{}; tick <- time.Time{} }
		round()
		want := treeOf(t, dir)
		if err := os.RemoveAll(filepath.Dir(file)); err != nil {
			t.Fatal(err)
		}
		round()
		if diff := cmp.Diff(want, treeOf(t, dir)); diff != "" || want["docker.io/hosts.toml"] == "" {
			t.Errorf("- want, + got:\n%s", diff)
		}
		put(t, file, "by hand")
		round()
		round()
		if got := treeOf(t, dir)["docker.io/hosts.toml"]; got != "by hand" {
			t.Errorf("the file of others has become %q", got)
		}
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		cancel()
		look <- struct{}{}
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(errs.String(), "--force"); n != 1 {
			t.Errorf("it complains %d times: %s", n, errs.String())
		}
		if left := treeOf(t, dir); remove != (len(left) == 0) {
			t.Errorf("--remove %v: there is %v", remove, left)
		}
	}
}

// recipeServer returns the URL of a server that has one recipe.
func recipeServer(t *testing.T, recipe string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/wt/" + recipe + "/v2/":
		case "/wt/locked/v2/":
			w.WriteHeader(http.StatusUnauthorized)
		case "/wt/broken/v2/":
			w.WriteHeader(http.StatusServiceUnavailable)
		case "/wt/foreign/v2/":
			http.NotFound(w, r)
		default:
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"errors":[{"message":"no such recipe"}]}`))
		}
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// TestHostsAsksTheServer: a recipe that the server does not have is an error before a
// file is written, and with --watch a warning. So is a server that cannot be asked.
func TestHostsAsksTheServer(t *testing.T) {
	server := recipeServer(t, "fusion")
	for name, test := range map[string]struct {
		recipe, server string
		args           []string
		status         int
		says           string
	}{
		"known":         {"fusion", server, nil, 0, ""},
		"mistyped":      {"fuison", server, nil, 1, "no such recipe"},
		"not asked":     {"fuison", server, []string{"--no-check"}, 0, ""},
		"locked":        {"locked", server, nil, 0, "asks for a login"},
		"broken":        {"broken", server, nil, 0, "503"},
		"other program": {"foreign", server, nil, 1, "is no waveproxy"},
		"down":          {"fusion", "http://127.0.0.1:1", nil, 0, "could not be asked"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var out, errs bytes.Buffer
			status := run(t.Context(), append([]string{"hosts", "docker.io", "--dir", dir, "--recipe", test.recipe, "--server", test.server}, test.args...), &out, &errs)
			if status != test.status || !strings.Contains(errs.String(), test.says) || test.says == "" && errs.Len() > 0 {
				t.Errorf("status %d, %q", status, errs.String())
			}
			if wrote := len(treeOf(t, dir)) > 0; wrote != (status == 0) {
				t.Errorf("files were written: %t", wrote)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	dir := t.TempDir()
	var out, errs bytes.Buffer
	if status := run(ctx, []string{"hosts", "docker.io", "--watch", "--dir", dir, "--recipe", "other", "--server", server}, &out, &errs); status != 0 || len(treeOf(t, dir)) == 0 {
		t.Errorf("--watch: status %d, %q", status, errs.String())
	}
}
