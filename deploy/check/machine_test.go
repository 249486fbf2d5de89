package check

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/compose-spec/compose-go/v2/cli"
	"k8s.io/apimachinery/pkg/api/resource"
)

// most is the exposure, of 100, above which systemd-analyze rejects a unit.
const most = "15"

func TestUnit(t *testing.T) {
	analyze := tool(t, "systemd-analyze", "systemd")
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	text := readFile(t, "../systemd/waveproxy.service")
	unit := writeFile(t, filepath.Join(t.TempDir(), "waveproxy.service"), replace(t, text, "ExecStart=/usr/local/bin/waveproxy ", "ExecStart="+path+" "))
	if said := wantSuccess(t, analyze, "verify", "--man=no", unit); said != "" {
		t.Errorf("systemd-analyze verify says:\n%s", said)
	}
	wantSuccess(t, analyze, "security", "--no-pager", "--offline=true", "--threshold="+most, unit)
}

// TestUnitConfig checks that the server accepts the variables that the unit sets.
func TestUnitConfig(t *testing.T) {
	var environ []string
	for line := range strings.Lines(readFile(t, "../systemd/waveproxy.service")) {
		if e, ok := strings.CutPrefix(strings.TrimSpace(line), "Environment="); ok {
			e = strings.ReplaceAll(strings.Trim(e, `"`), "%S", "/var/lib")
			environ = append(environ, strings.ReplaceAll(e, "%d", "/run/credentials/waveproxy.service"))
		}
	}
	c := wantConfig(t, "", environ...)
	unit := readFile(t, "../systemd/waveproxy.service")
	_, most, _ := strings.Cut(unit, "\nMemoryMax=")
	most, _, _ = strings.Cut(most, "\n")
	limit, err := resource.ParseQuantity(most + "i")
	if err != nil {
		t.Fatalf("MemoryMax %q: %v", most, err)
	}
	_, aim, _ := strings.Cut(unit, "\nEnvironment=GOMEMLIMIT=")
	aim, _, _ = strings.Cut(aim, "\n")
	wantHeap(t, aim, limit.Value())
	if c.Storage.Dir != "/var/lib/waveproxy" || len(c.Tokens.Keys) != 1 || c.Tokens.Keys[0].File != "/run/credentials/waveproxy.service/key" {
		t.Errorf("the server would use %+v", c)
	}
}

// TestCompose loads the file as Docker Compose does, which refuses unknown keys.
func TestCompose(t *testing.T) {
	options, err := cli.NewProjectOptions([]string{"../compose/compose.yml"}, cli.WithoutEnvironmentResolution)
	if err != nil {
		t.Fatal(err)
	}
	project, err := options.LoadProject(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s, err := project.GetService("waveproxy")
	if err != nil {
		t.Fatal(err)
	}
	if !s.ReadOnly || len(s.CapDrop) != 1 || s.CapDrop[0] != "ALL" || s.Ports[0].HostIP != "127.0.0.1" {
		t.Errorf("the server may do too much, or its port is open to other machines: %+v", s)
	}
	if root, err := filepath.Abs("../.."); err != nil || s.Build.Context != root {
		t.Errorf("the image is built from %s, want %s (%v)", s.Build.Context, root, err)
	}
	if v := s.Volumes[0]; v.Target != "/data" || project.Volumes[v.Source].Name == "" {
		t.Errorf("the storage is %+v", v)
	}
	if s.StopGracePeriod == nil || time.Duration(*s.StopGracePeriod) <= shutdownSeconds*time.Second {
		t.Errorf("the server has %v to end", s.StopGracePeriod)
	}
	wantHealthCheck(t, s.HealthCheck.Test)
	environ := []string{"WAVEPROXY_STORAGE_DIR=/data"} // the image's own
	for name, value := range s.Environment {
		environ = append(environ, name+"="+*value)
	}
	wantConfig(t, "", environ...)
	if aim := s.Environment["GOMEMLIMIT"]; aim == nil {
		t.Error("there is no GOMEMLIMIT")
	} else {
		wantHeap(t, *aim, int64(s.MemLimit))
	}
}

// wantHealthCheck makes waveproxy check a server that is not there. The check must fail
// for that reason alone.
func wantHealthCheck(t *testing.T, test []string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	if len(test) < 3 || test[0] != "CMD" || test[1] != "/waveproxy" {
		t.Fatalf("the health check is %q", test)
	}
	cmd := exec.Command(path, test[2:]...)
	cmd.Env = []string{"WAVEPROXY_SERVER=http://127.0.0.1:1"}
	if out, err := cmd.CombinedOutput(); err == nil || !strings.Contains(string(out), "connection refused") {
		t.Errorf("%v: %s", err, out)
	}
}
