//go:build linux

package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
)

// Unpacker is an engine that tells where it has unpacked an image. Its methods may
// be called concurrently. They start no process, so that thousands of images can be
// pulled.
type Unpacker interface {
	Name() string
	// Unpack pulls ref, which ends in a digest, and returns the directories with the
	// image's layers, the topmost first, as overlay file systems take them.
	Unpack(ctx context.Context, ref string) (layers []string, err error)
}

// MemoryDir returns a directory in memory, which is removed when the test ends.
func MemoryDir(t testing.TB) string {
	t.Helper()
	dir, err := makeDir("wp-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := removeAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// overUnix returns a transport to the server at the socket.
func overUnix(socket string) *http.Transport {
	return &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}}
}

// Unpack pulls with Docker's own API.
func (d *Docker) Unpack(ctx context.Context, ref string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	progress, err := d.call(ctx, http.MethodPost, "/images/create?"+url.Values{"fromImage": {ref}}.Encode())
	if err != nil {
		return nil, err
	}
	// The status is 200 before the pull begins; the last message has the error.
	for lines := json.NewDecoder(strings.NewReader(progress)); ; {
		var line struct{ Error string }
		if err := lines.Decode(&line); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, fmt.Errorf("pull %s: %w", ref, err)
		}
		if line.Error != "" {
			return nil, fmt.Errorf("pull %s: %s", ref, line.Error)
		}
	}
	text, err := d.call(ctx, http.MethodGet, "/images/"+ref+"/json")
	if err != nil {
		return nil, err
	}
	var image struct {
		GraphDriver struct {
			Name string
			Data struct{ LowerDir, UpperDir string }
		}
	}
	if err := json.Unmarshal([]byte(text), &image); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", ref, err)
	}
	if image.GraphDriver.Name != "overlay2" {
		return nil, fmt.Errorf("inspect %s: storage %q, want overlay2", ref, image.GraphDriver.Name)
	}
	layers := []string{image.GraphDriver.Data.UpperDir}
	if lower := image.GraphDriver.Data.LowerDir; lower != "" {
		layers = append(layers, strings.Split(lower, ":")...)
	}
	return layers, nil
}

// call sends a request to dockerd and returns the body of a good answer.
func (d *Docker) call(ctx context.Context, method, path string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, nil)
	if err != nil {
		return "", err
	}
	resp, err := d.api.RoundTrip(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, tail(string(body)))
	}
	return string(body), err
}

// Name is "containerd".
func (n *Node) Name() string { return "containerd" }

// Unpack pulls through CRI, which unpacks at once.
func (n *Node) Unpack(ctx context.Context, ref string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, commandTimeout)
	defer cancel()
	spec := message(nil).text(1, ref) // ImageSpec.image
	if _, err := n.api.call(ctx, "/runtime.v1.ImageService/PullImage", message(nil).bytes(1, spec)); err != nil {
		return nil, fmt.Errorf("pull %s: %w", ref, err)
	}
	const verbose = 2
	status, err := n.api.call(ctx, "/runtime.v1.ImageService/ImageStatus", message(nil).bytes(1, spec).flag(verbose))
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", ref, err)
	}
	var info struct{ ChainID string }
	for _, pair := range status.all(2) { // a map: its pairs are messages of key and value
		if pair := message(pair); string(pair.first(1)) == "info" {
			err = json.Unmarshal(pair.first(2), &info)
		}
	}
	if err != nil || info.ChainID == "" {
		return nil, fmt.Errorf("status of %s tells no chain ID: %w", ref, err)
	}
	return n.layers(ctx, info.ChainID)
}

// layers returns the directories of a committed snapshot, through a view of it.
func (n *Node) layers(ctx context.Context, chainID string) ([]string, error) {
	const service, driver = "/containerd.services.snapshots.v1.Snapshots/", "overlayfs"
	key := fmt.Sprintf("view-%d", n.views.Add(1))
	view, err := n.api.call(ctx, service+"View", message(nil).text(1, driver).text(2, key).text(3, chainID))
	if err != nil {
		return nil, fmt.Errorf("view %s: %w", chainID, err)
	}
	// containerd removes views itself, because they have no lease. Of layers that
	// were reused, it leaves more than tests should have.
	_, _ = n.api.call(ctx, service+"Remove", message(nil).text(1, driver).text(2, key))
	mount := message(view.first(1))
	if string(mount.first(1)) == "bind" { // a single layer
		return []string{string(mount.first(2))}, nil
	}
	for _, option := range mount.all(4) {
		if lower, ok := strings.CutPrefix(string(option), "lowerdir="); ok {
			return strings.Split(lower, ":"), nil
		}
	}
	return nil, fmt.Errorf("view %s: a mount of type %q without layers", chainID, mount.first(1))
}
