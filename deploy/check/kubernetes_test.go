package check

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	core "k8s.io/api/core/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const nodePortServer = "http://$(HOST_IP):30090"

// manifests returns all objects in kubernetes, without the example of a secret.
func manifests(t *testing.T) (all objects) {
	t.Helper()
	files, err := filepath.Glob("../kubernetes/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatalf("%v: %v", files, err)
	}
	for _, file := range files {
		if filepath.Base(file) != "secret.example.yaml" {
			all = append(all, decode(t, readFile(t, file))...)
		}
	}
	return all
}

func TestManifests(t *testing.T) {
	all := manifests(t)
	c := wantConfig(t, wantServer(t, all))
	if c.Storage.Dir != "/data" {
		t.Errorf("the server would use the storage %s", c.Storage.Dir)
	}
	wantNodes(t, all, nodePortServer)
	namespaces := map[string]string{}
	for _, n := range every[*core.Namespace](all) {
		namespaces[n.Name] = n.Labels["pod-security.kubernetes.io/enforce"]
	}
	for _, object := range all {
		o := object.(meta.Object)
		if _, ok := object.(*core.Namespace); !ok && namespaces[o.GetNamespace()] == "" {
			t.Errorf("%T %s is in the namespace %q, which no file makes", object, o.GetName(), o.GetNamespace())
		}
	}
	if namespaces["waveproxy"] != "restricted" {
		t.Errorf("the server's namespace is %s", namespaces["waveproxy"])
	}
}

// TestSecret checks that the example has the entry that the server reads its key from,
// and that the placeholder is not a key.
func TestSecret(t *testing.T) {
	secret := the[*core.Secret](t, decode(t, readFile(t, "../kubernetes/secret.example.yaml")))
	text := wantServer(t, manifests(t))
	key := parseConfig(t, text).Tokens.Keys[0].File
	if want := "/run/secrets/waveproxy/key"; key != want || secret.StringData["key"] == "" {
		t.Fatalf("the server reads %s, and the secret has %v", key, secret.StringData)
	}
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	text = replace(t, text, key, writeFile(t, filepath.Join(dir, "key"), secret.StringData["key"]))
	out, err := exec.Command(path, "config", "check", "--config", writeFile(t, filepath.Join(dir, "config.yml"), text)).CombinedOutput()
	if err == nil || !strings.Contains(string(out), "tokens.keys[0].file") {
		t.Errorf("the server takes the placeholder for a key: %v\n%s", err, out)
	}
}
