package rootfs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// tarOptions are what "unpack into the image" means. All extended attributes are
// restored, as engines do; tar by itself takes only those of the namespace user.
var tarOptions = []string{
	"-x", "--keep-directory-symlink", "--no-overwrite-dir", "-p", "--numeric-owner", "--xattrs", "--xattrs-include=*", "-P",
	"-f", "-",
}

// tools is the directory in the oracle's root with tar and its libraries. No case
// has this name.
const tools = ".tar"

// copyTools makes a layer with GNU tar and the libraries that it is linked with.
func copyTools(dir string) error {
	program, err := exec.LookPath("tar")
	if err != nil {
		return err
	}
	version, err := exec.Command(program, "--version").Output()
	if err != nil || !bytes.Contains(version, []byte("GNU tar")) {
		return fmt.Errorf("%s is not GNU tar: %.60q, %w", program, version, err)
	}
	list, err := exec.Command("ldd", program).Output()
	if err != nil {
		return fmt.Errorf("ldd %s: %w", program, err)
	}
	to := filepath.Join(dir, tools)
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	files := map[string]string{"tar": program}
	for field := range strings.FieldsSeq(string(list)) {
		if !filepath.IsAbs(field) {
			continue
		}
		name := filepath.Base(field)
		if strings.HasPrefix(name, "ld-linux") || strings.HasPrefix(name, "ld64") {
			name = "loader"
		}
		files[name] = field
	}
	if files["loader"] == "" {
		return fmt.Errorf("ldd %s names no loader: %s", program, list)
	}
	for name, from := range files {
		data, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(to, name), data, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// runTar unpacks the entries in root.
func runTar(ctx context.Context, root string, entries layer) error {
	if len(entries) == 0 {
		return nil
	}
	archive, err := entries.archive()
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "/"+tools+"/loader")
	cmd.Args = append([]string{"loader", "--library-path", "/" + tools, "/" + tools + "/tar"}, tarOptions...)
	cmd.SysProcAttr, cmd.Dir, cmd.Env = &syscall.SysProcAttr{Chroot: root}, "/", []string{"LC_ALL=C"}
	cmd.Stdin = bytes.NewReader(archive)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("tar: %w: %s\nof: %s", err, out, entries)
	}
	return nil
}
