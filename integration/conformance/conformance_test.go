//go:build linux

package conformance

import (
	"bytes"
	"context"
	"encoding/xml"
	"errors"
	"go/build"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/waveproxy/waveproxy/integration/engine"
	"github.com/waveproxy/waveproxy/integration/harness"
	"github.com/waveproxy/waveproxy/integration/upstream"
)

// RunConformance runs the read-only part of the OCI distribution-spec suite
// against a repository with the given tag, manifests and blobs. The tag and
// manifests must be of OCI types, because the suite accepts no others. Settings
// are further variables of the suite, such as "OCI_API_REFERRER=false" for a
// registry that lacks the referrers API. The test fails if any part of the suite
// does, or if the suite's program is missing and engine.Required.
func RunConformance(t *testing.T, host, repo, tag string, manifests, blobs []string, settings ...string) {
	t.Helper()
	program, err := findConformance()
	if err != nil {
		missing := t.Logf
		if engine.Required() {
			missing = t.Fatalf
		}
		missing("missing tool conformance: %v", err)
		return
	}
	environment := slices.Concat([]string{
		"OCI_REGISTRY=" + host,
		"OCI_TLS=disabled",
		"OCI_REPO1=" + repo,
		"OCI_API_PUSH=false",
		"OCI_API_BLOBS_DELETE=false",
		"OCI_API_MANIFESTS_DELETE=false",
		"OCI_API_TAGS_DELETE=false",
	}, settings)
	content := []string{
		"OCI_RO_DATA_TAGS=" + tag,
		"OCI_RO_DATA_MANIFESTS=" + strings.Join(manifests, " "),
		"OCI_RO_DATA_BLOBS=" + strings.Join(blobs, " "),
		"OCI_RO_DATA_REFERRERS=" + strings.Join(manifests, " "),
	}
	// One run for each group that reads, and the content only for the group that
	// uses it. Otherwise, with pushes disabled, the program ends before it has
	// written its report, always with status 0.
	for _, group := range []string{"ping", "empty", "read-only", "missing-manifest", "invalid-digest-format"} {
		t.Run(group, func(t *testing.T) {
			environment := append(slices.Clone(environment), "OCI_FILTER_TEST=OCI Conformance Test/"+group)
			if group == "read-only" {
				environment = append(environment, content...)
			}
			runConformanceGroup(t, program, environment)
		})
	}
}

// findConformance looks for the suite in PATH, then in the directory of go
// install.
func findConformance() (string, error) {
	path, err := exec.LookPath("conformance")
	for _, dir := range []string{os.Getenv("GOBIN"), filepath.Join(build.Default.GOPATH, "bin")} {
		if err != nil && dir != "" {
			path, err = exec.LookPath(filepath.Join(dir, "conformance"))
		}
	}
	return path, err
}

// conformanceReport is the part of junit.xml with the tests' results.
type conformanceReport struct {
	Tests    int `xml:"tests,attr"`
	Errors   int `xml:"errors,attr"`
	Failures int `xml:"failures,attr"`
	Skipped  int `xml:"skipped,attr"`
	Disabled int `xml:"disabled,attr"`
	Cases    []struct {
		Name   string `xml:"name,attr"`
		Status string `xml:"status,attr"`
		Out    string `xml:"system-out"`
		Err    string `xml:"system-err"`
	} `xml:"testsuite>testcase"`
}

func runConformanceGroup(t *testing.T, program string, environment []string) {
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	var output bytes.Buffer
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir, cmd.Env = dir, append(environment, "OCI_RESULTS_DIR="+dir)
	cmd.Stdout, cmd.Stderr = &output, &output
	// The status alone is not enough: it is also 0 for a setting that the program
	// cannot read.
	runErr := cmd.Run()
	content, err := os.ReadFile(filepath.Join(dir, "junit.xml"))
	if err != nil {
		t.Fatalf("no report: %v\n%s", errors.Join(runErr, err), &output)
	}
	var report conformanceReport
	if err := xml.Unmarshal(content, &report); err != nil {
		t.Fatalf("junit.xml: %v\n%s", err, content)
	}
	passed := report.Tests - report.Errors - report.Failures - report.Skipped - report.Disabled
	t.Logf("%d passed, %d failed, %d errors, %d skipped, %d disabled",
		passed, report.Failures, report.Errors, report.Skipped, report.Disabled)
	for _, c := range report.Cases {
		if c.Status == "failure" || c.Status == "error" {
			t.Errorf("%s\n%s%s", c.Name, c.Out, c.Err)
		}
	}
	if runErr != nil || report.Failures+report.Errors > 0 || passed+report.Disabled == 0 {
		t.Errorf("conformance: %v, %d of %d passed", runErr, passed, report.Tests)
	}
}

// TestConformance runs the suite against an augmented image, including referrers.
func TestConformance(t *testing.T) {
	reg := upstream.Registry(t)
	upstream.Push(t, reg.Host, "busybox:multi")
	p := harness.StartProxy(t, "", harness.DockerHub(reg.URL))
	a := p.Augment(t, harness.Request{ContainerImage: "busybox:multi", ContainerConfig: harness.Greeter(t)})
	manifests, blobs := contents(t, a.TargetImage)
	RunConformance(t, p.Host, "wt/"+a.ContainerToken+"/library/busybox", "multi", manifests, blobs)
}

// TestConformanceOfUpstream is the control: it runs RunConformance against
// distribution, which lacks only the referrers API.
func TestConformanceOfUpstream(t *testing.T) {
	s := upstream.Registry(t)
	upstream.Push(t, s.Host, "busybox:multi")
	manifests, blobs := contents(t, s.Host+"/library/busybox:multi")
	RunConformance(t, s.Host, "library/busybox", "multi", manifests, blobs, "OCI_API_REFERRER=false")
	if len(s.Requests()) == 0 {
		t.Error("the suite made no request to the registry")
	}
}

// contents returns the digests of an index and its image for amd64, and of that
// image's config and layers.
func contents(t *testing.T, image string) (manifests, blobs []string) {
	t.Helper()
	index, err := remote.Index(harness.MustRef(t, image), remote.WithContext(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	root, err := index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	img := harness.Pull(t, image, "amd64")
	child, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	blobs = append(blobs, manifest.Config.Digest.String())
	for _, l := range manifest.Layers {
		blobs = append(blobs, l.Digest.String())
	}
	return []string{root.String(), child.String()}, blobs
}
