package harness

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ClientRequests is the directory of bodies that were captured from Nextflow and
// the wave CLI.
const ClientRequests = "../../api/testdata"

// NextflowRequest returns a body as Nextflow sends it: the captured body with
// some members replaced. As in Nextflow's bodies, unused members are null.
func NextflowRequest(t *testing.T, members map[string]any) string {
	t.Helper()
	captured, err := os.ReadFile(filepath.Join(ClientRequests, "nextflow-plain.json"))
	if err != nil {
		t.Fatal(err)
	}
	var body map[string]any
	if err := json.Unmarshal(captured, &body); err != nil {
		t.Fatal(err)
	}
	body["timestamp"] = time.Now().Format(time.RFC3339Nano)
	maps.Copy(body, members)
	data, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// NextflowConfig returns a container config as Nextflow sends it. Fetched layers,
// such as Fusion's, are the ones that Nextflow leaves out of fingerprints.
func NextflowConfig(c Config) map[string]any {
	list := func(values []string) any {
		if values == nil {
			return nil
		}
		return values
	}
	wire := map[string]any{
		"entrypoint": list(c.Entrypoint), "cmd": list(c.Cmd), "env": list(c.Env), "workingDir": nil, "layers": nil,
	}
	if c.WorkingDir != "" {
		wire["workingDir"] = c.WorkingDir
	}
	var layers []any
	for _, l := range c.Layers {
		layer := map[string]any{
			"location": l.Location, "gzipDigest": l.GzipDigest, "gzipSize": l.GzipSize, "tarDigest": l.TarDigest, "skipHashing": nil,
		}
		if !strings.HasPrefix(l.Location, "data:") {
			layer["skipHashing"] = true
		}
		layers = append(layers, layer)
	}
	if layers != nil {
		wire["layers"] = layers
	}
	return wire
}
