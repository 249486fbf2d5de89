package rootfs

import (
	"archive/tar"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// bench is what cases run on: a registry, the server, and engines that serve all cases.
type bench struct {
	base    repository
	host    string // of the registry
	proxy   *harness.Proxy
	merging map[int]*harness.Proxy // by the number of the base's layers
	engines []engine.Unpacker
	dir     string // in memory
	tar     string // the layer with tar
	scratch atomic.Int64
	seen    counts
}

// counts says what the cases of a run have in them, so that a generator that makes
// nothing of interest is noticed. Each counts cases and engines.
type counts struct {
	compared, refused, moved, byHand, undecided, replaced, merged, tables atomic.Int64
}

func (c *counts) String() string {
	return fmt.Sprintf("%d root file systems compared, %d with files that links moved, %d with work by hand; %d refused as they must be; %d bases replaced that an engine does not unpack, %d that have no right result; %d images with merged layers, %d bases with tables of contents",
		c.compared.Load(), c.moved.Load(), c.byHand.Load(), c.refused.Load(), c.replaced.Load(), c.undecided.Load(), c.merged.Load(), c.tables.Load())
}

func newBench(t *testing.T) *bench {
	t.Helper()
	docker, ok := harness.DockerEngine(t).(engine.Unpacker)
	if !ok {
		t.Fatal("the Docker engine does not tell where it unpacks images")
	}
	node, ok := engine.StartNode(t, *release)
	if !ok {
		t.Fatalf("this machine has no containerd %s with crictl", *release)
	}
	return benchOf(t, docker, node)
}

func benchOf(t *testing.T, engines ...engine.Unpacker) *bench {
	t.Helper()
	reg := upstream.Registry(t)
	b := &bench{engines: engines, dir: engine.MemoryDir(t), host: reg.Host}
	b.base = repository{reg.URL, "rootfs/base"}
	b.tar = filepath.Join(b.dir, "tar")
	if err := copyTools(b.tar); err != nil {
		t.Fatal(err)
	}
	storage := filepath.Join(b.dir, "storage")
	if err := os.Mkdir(storage, 0o700); err != nil {
		t.Fatal(err)
	}
	settings := harness.OneRegistry(reg.Host, map[string]string{})
	settings["WAVEPROXY_LIMITS_PULLS"], settings["WAVEPROXY_LOG_LEVEL"] = "0", "info"
	b.proxy = harness.StartProxy(t, storage, settings)
	b.merging = map[int]*harness.Proxy{}
	for n := 1; n <= maxBase; n++ {
		settings["WAVEPROXY_LIMITS_LAYERS"] = fmt.Sprint(n + 1)
		if storage = filepath.Join(b.dir, "storage"+settings["WAVEPROXY_LIMITS_LAYERS"]); os.Mkdir(storage, 0o700) != nil {
			t.Fatal("cannot make a directory in memory")
		}
		b.merging[n] = harness.StartProxy(t, storage, settings)
	}
	return b
}

// submit asks the server for the augmented image. A refusal is the answer's Message.
func (b *bench) submit(ctx context.Context, s stack, base string, added []packed) (harness.Answer, error) {
	config := &harness.Config{}
	for _, l := range added {
		config.Layers = append(config.Layers, l.request())
	}
	body, err := json.Marshal(harness.Request{ContainerImage: base, ContainerConfig: config})
	if err != nil {
		return harness.Answer{}, err
	}
	proxy := b.proxy
	if s.merges() {
		proxy = b.merging[len(s.Base)]
	}
	resp, err := proxy.Call(ctx, http.MethodPost, "/v1alpha2/container", string(body))
	if err != nil {
		return harness.Answer{}, err
	}
	return resp.Answer()
}

// mounted runs f with the layers mounted, the topmost first. With tar, f can change the
// files and run tar, and the layers stay as they are.
func (b *bench) mounted(layers []string, withTar bool, f func(root string) error) (err error) {
	dir := filepath.Join(b.dir, fmt.Sprintf("m%d", b.scratch.Add(1)))
	root, upper, work := filepath.Join(dir, "root"), filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{dir, root, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	// Without an upper directory, Linux wants two layers; without one that is empty it
	// would show the tools.
	if withTar {
		err = mountLayers(root, append(layers[:len(layers):len(layers)], b.tar), upper, work)
	} else {
		err = mountLayers(root, append(layers[:len(layers):len(layers)], upper), "", "")
	}
	if err != nil {
		return err
	}
	err = f(root)
	// Detached at once, because a child of another goroutine that has not become its
	// program yet may hold files open. RemoveAll never sees the mounted files.
	return errors.Join(err, syscall.Unmount(root, syscall.MNT_DETACH))
}

// loopRefusal finds the entry and the link in a refusal.
var loopRefusal = regexp.MustCompile(`entry \\"([^"]*)\\" cannot be added: the link \\"([^"]*)\\"`)

// tellsLoop reports whether a refusal names one of the entries and a link of the base or
// of the added layers. Which of several it names is left open.
func tellsLoop(message string, before tree, added []layer) bool {
	match := loopRefusal.FindStringSubmatch(message)
	if match == nil {
		return false
	}
	entries := slices.Concat(added...)
	isEntry := slices.ContainsFunc(entries, func(e entry) bool {
		hidden, _, marker := e.hides()
		return e.clean() == match[1] || marker && hidden == match[1]
	})
	isLink := strings.HasPrefix(before[match[2]], "link ") ||
		slices.ContainsFunc(entries, func(e entry) bool { return e.Kind == tar.TypeSymlink && path.Base(e.clean()) == path.Base(match[2]) })
	return isEntry && isLink
}
