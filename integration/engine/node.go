//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Node is a containerd set up as on a Kubernetes node: it is driven through CRI
// and reads hosts.toml files in a directory. Pods use the machine's network, so
// that no CNI plugin is needed.
type Node struct {
	// CertsDir is the directory with hosts.toml for each registry.
	CertsDir string

	dir    string
	crictl command
	ctr    command
	api    grpcClient   // the same services, without a process
	views  atomic.Int64 // of snapshots, for their names
}

// Releases are the containerd releases that nodes are tested with: Debian's, and
// one of the current series. The programs of the latter are in the subdirectory
// containerd2 of a directory in PATH.
var Releases = []string{"1.6", "2"}

// pause is the name of the image that every pod begins with. SetPause sets its
// content.
const pause = "pause.test/pause:1"

// nodeConfigs holds containerd's configuration by release.
var nodeConfigs = map[string]string{
	"1.6": `version = 2
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = [
	"io.containerd.snapshotter.v1.aufs",
	"io.containerd.snapshotter.v1.btrfs",
	"io.containerd.snapshotter.v1.devmapper",
	"io.containerd.snapshotter.v1.zfs",
]
[grpc]
	address = "%[1]s/s"
[plugins."io.containerd.internal.v1.opt"]
	path = "%[1]s/opt"
[plugins."io.containerd.grpc.v1.cri"]
	sandbox_image = "%[2]s"
	restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
	bin_dir = "%[1]s/cni"
	conf_dir = "%[1]s/cni"
[plugins."io.containerd.grpc.v1.cri".containerd]
	snapshotter = "%[3]s"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
	runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".registry]
	config_path = "%[1]s/certs.d"
`,
	"2": `version = 3
root = "%[1]s/root"
state = "%[1]s/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
	address = "%[1]s/s"
[plugins."io.containerd.internal.v1.opt"]
	path = "%[1]s/opt"
[plugins."io.containerd.cri.v1.images"]
	snapshotter = "%[3]s"
[plugins."io.containerd.cri.v1.images".pinned_images]
	sandbox = "%[2]s"
[plugins."io.containerd.cri.v1.images".registry]
	config_path = "%[1]s/certs.d"
[plugins."io.containerd.cri.v1.runtime"]
	restrict_oom_score_adj = true
[plugins."io.containerd.cri.v1.runtime".cni]
	bin_dirs = ["%[1]s/cni"]
	conf_dir = "%[1]s/cni"
[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
	runtime_type = "io.containerd.runc.v2"
`,
}

// StartNode runs a containerd until the test has ended. If its programs are
// missing, ok is false, or the test fails if Required.
func StartNode(t testing.TB, release string) (node *Node, ok bool) {
	t.Helper()
	node, err := startNode(t, release)
	if err != nil && !Required() && errors.Is(err, exec.ErrNotFound) {
		t.Logf("no node: %v", err)
		return nil, false
	}
	if err != nil {
		t.Fatalf("start containerd %s: %v", release, err)
	}
	return node, true
}

func startNode(t testing.TB, release string) (*Node, error) {
	// Sockets have short names, and t.TempDir does not unmount.
	dir, err := makeDir("wp-node-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if err := removeAll(dir); err != nil {
			t.Error(err)
		}
	})
	n := &Node{CertsDir: filepath.Join(dir, "certs.d"), dir: dir}
	socket := filepath.Join(dir, "s")
	n.api = newGRPCClient(socket)
	subdirectory := ""
	if release != "1.6" {
		subdirectory = "containerd" + release
	}
	if n.ctr, err = newCommandIn(subdirectory, "ctr", dir, "CONTAINERD_ADDRESS="+socket, "CONTAINERD_NAMESPACE=k8s.io"); err != nil {
		return nil, err
	}
	if n.crictl, err = newCommand("crictl", dir); err != nil {
		return nil, err
	}
	settings := filepath.Join(dir, "crictl.yaml") // in place of the machine's
	if err := os.WriteFile(settings, nil, 0o600); err != nil {
		return nil, err
	}
	n.crictl.flags = []string{"--config=" + settings, "--runtime-endpoint=unix://" + socket, "--image-endpoint=unix://" + socket, "--timeout=2m"}
	server, err := newCommandIn(subdirectory, "containerd", dir)
	if err != nil {
		return nil, err
	}
	snapshotter := "overlayfs"
	if !overlayWorks(dir) {
		snapshotter = "native"
	}
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, nodeConfigs[release], dir, pause, snapshotter), 0o600); err != nil {
		return nil, err
	}
	server.flags = []string{"--config=" + config}
	d, err := server.start(filepath.Join(dir, "log"), func(ctx context.Context) error {
		_, _, err := n.crictl.run(ctx, "version")
		return err
	})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		n.removePods(t)
		if err := d.stop(); err != nil {
			t.Error(err)
		}
		if log, _ := os.ReadFile(filepath.Join(dir, "log")); t.Failed() {
			t.Logf("containerd says: %s", tail(string(log)))
		}
	})
	return n, nil
}

// newCommandIn is newCommand for a program in a subdirectory of one in PATH, with
// its helpers beside it.
func newCommandIn(subdirectory, name, dir string, env ...string) (command, error) {
	if subdirectory == "" {
		return newCommand(name, dir, env...)
	}
	for _, d := range filepath.SplitList(os.Getenv("PATH")) {
		if path, err := exec.LookPath(filepath.Join(d, subdirectory, name)); err == nil {
			return newCommand(path, dir, env...)
		}
	}
	return command{}, fmt.Errorf("%s/%s: %w", subdirectory, name, exec.ErrNotFound)
}

// removePods removes the pods that a failed test has left, because shims do not
// end with containerd.
func (n *Node) removePods(t testing.TB) {
	list, _, err := n.crictl.run(context.Background(), "pods", "--quiet")
	if pods := strings.Fields(list); err == nil && len(pods) > 0 {
		_, _, err = n.crictl.run(context.Background(), append([]string{"rmp", "--force"}, pods...)...)
	}
	if err != nil {
		t.Error(err)
	}
}

// SetPause makes ref, an image of a registry at localhost, the image that every
// pod begins with. Its program must run until it is killed.
func (n *Node) SetPause(ctx context.Context, ref string) error {
	if _, _, err := n.ctr.run(ctx, "images", "pull", "--plain-http", ref); err != nil {
		return err
	}
	if _, _, err := n.ctr.run(ctx, "images", "tag", ref, pause); err != nil {
		return err
	}
	return n.await(ctx, pause)
}

// await waits until CRI knows an image that ctr has made. CRI learns of it from
// an event.
func (n *Node) await(ctx context.Context, ref string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		_, _, err := n.crictl.run(ctx, "inspecti", ref)
		if err == nil || ctx.Err() != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// Pull pulls an image through CRI, as the kubelet does.
func (n *Node) Pull(ctx context.Context, ref string) (output string, err error) {
	stdout, stderr, err := n.crictl.run(ctx, "pull", ref)
	return stdout + stderr, err
}

// PullWithCtr pulls with containerd's own client, which reads the same hosts.toml
// files.
func (n *Node) PullWithCtr(ctx context.Context, ref string) (output string, err error) {
	stdout, stderr, err := n.ctr.run(ctx, "images", "pull", "--hosts-dir", n.CertsDir, ref)
	if err == nil {
		err = n.await(ctx, ref)
	}
	return stdout + stderr, err
}

// Remove deletes an image.
func (n *Node) Remove(ctx context.Context, ref string) error {
	_, _, err := n.crictl.run(ctx, "rmi", ref)
	return err
}

// Run runs a pulled image in a pod of its own until its program ends, and returns
// the output. As in a pod's specification, command replaces the image's
// entrypoint and args its command.
func (n *Node) Run(ctx context.Context, ref string, command, args []string) (stdout string, err error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	logs, err := os.MkdirTemp(n.dir, "pod-")
	if err != nil {
		return "", err
	}
	name := filepath.Base(logs)
	const machine = 2 // CRI's number for the machine's own namespace
	pod, err := writeJSON(logs, "pod.json", map[string]any{
		"metadata":      map[string]any{"name": name, "namespace": "default", "uid": name, "attempt": 1},
		"log_directory": logs,
		"linux":         map[string]any{"security_context": map[string]any{"namespace_options": map[string]any{"network": machine}}},
	})
	if err != nil {
		return "", err
	}
	container, err := writeJSON(logs, "container.json", map[string]any{
		"metadata": map[string]any{"name": name},
		"image":    map[string]any{"image": ref},
		"command":  command,
		"args":     args,
		"log_path": "log",
		"linux":    map[string]any{},
	})
	if err != nil {
		return "", err
	}
	podID, _, err := n.crictl.run(ctx, "runp", pod)
	if err != nil {
		return "", err
	}
	podID = strings.TrimSpace(podID)
	defer func() {
		_, _, removing := n.crictl.run(context.WithoutCancel(ctx), "rmp", "--force", podID)
		err = errors.Join(err, removing)
	}()
	id, _, err := n.crictl.run(ctx, "create", "--no-pull", podID, container, pod)
	if err != nil {
		return "", err
	}
	id = strings.TrimSpace(id)
	if _, _, err := n.crictl.run(ctx, "start", id); err != nil {
		return "", err
	}
	for {
		state, _, err := n.crictl.run(ctx, "inspect", "--output=go-template", "--template={{.status.state}} {{.status.exitCode}}", id)
		if err != nil {
			return "", err
		}
		if code, exited := strings.CutPrefix(strings.TrimSpace(state), "CONTAINER_EXITED "); exited {
			stdout, stderr, err := n.crictl.run(ctx, "logs", id)
			if err == nil && code != "0" {
				err = fmt.Errorf("%s exited with %s: %s", ref, code, tail(stderr))
			}
			return stdout, err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func writeJSON(dir, name string, value any) (path string, err error) {
	data, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, name)
	return path, os.WriteFile(path, data, 0o600)
}
