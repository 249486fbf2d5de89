package harness

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
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

// Submitted is what a client makes of a submission.
type Submitted struct {
	Requests int           // sent
	Paused   time.Duration // between them; the pauses are counted, not waited for
	Took     time.Duration // besides
	Printed  string        // for the user
}

// SubmitAsNextflow submits an image as nf-wave 1.22 does: after 429, 500, 502, 503 and
// 504 it repeats the request, five in all, 450 ms and then twice as long apart.
func SubmitAsNextflow(t *testing.T, p *Proxy, image string) Submitted {
	t.Helper()
	return submitAs(t, p, NextflowRequest(t, map[string]any{"containerImage": image}), 450*time.Millisecond, map[int]bool{429: true, 500: true, 502: true, 503: true, 504: true}, "")
}

// SubmitAsWaveCLI submits an image as the wave command 1.8 does: after 502, 503 and 504
// it repeats the request, and loses the reason.
func SubmitAsWaveCLI(t *testing.T, p *Proxy, image string) Submitted {
	t.Helper()
	return submitAs(t, p, string(MustJSON(t, map[string]string{"containerImage": image})), 150*time.Millisecond, map[int]bool{502: true, 503: true, 504: true}, "Unable to connect Wave service: "+p.URL)
}

// submitAs repeats a request while its status is retried. lost is printed instead of
// the last answer, if it is not empty.
func submitAs(t *testing.T, p *Proxy, body string, delay time.Duration, retried map[int]bool, lost string) (s Submitted) {
	t.Helper()
	const path = "/v1alpha2/container"
	start := time.Now()
	for ; ; delay *= 2 {
		resp, err := p.Call(t.Context(), http.MethodPost, path, body)
		if err != nil {
			t.Fatal(err)
		}
		s.Requests++
		s.Took, s.Printed = time.Since(start), fmt.Sprintf("Wave invalid response: POST %s%s [%d] %s", p.URL, path, resp.Status, resp.Body)
		if !retried[resp.Status] {
			return s
		}
		if s.Requests == 5 {
			if lost != "" {
				s.Printed = lost
			}
			return s
		}
		s.Paused += delay
	}
}
