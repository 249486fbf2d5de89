package check

import (
	"net/url"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// shutdownSeconds is how long the server lets pulls continue after a signal.
const shutdownSeconds = 30

// wantServer checks the objects of the server against each other, and returns
// its configuration.
func wantServer(t *testing.T, all objects) (configuration string) {
	t.Helper()
	deployment := the[*apps.Deployment](t, all)
	pod := deployment.Spec.Template
	wantPod(t, pod.Spec)
	wantSelected(t, "the deployment", deployment.Spec.Selector.MatchLabels, pod.Labels)
	if s := pod.Spec.SecurityContext; s.RunAsNonRoot == nil || !*s.RunAsNonRoot || s.RunAsUser == nil || *s.RunAsUser == 0 || s.FSGroup == nil {
		t.Errorf("the server is root, or cannot write to its volume: %+v", s)
	}
	if len(pod.Spec.Containers) != 1 {
		t.Fatalf("%d containers", len(pod.Spec.Containers))
	}
	server := pod.Spec.Containers[0]
	wantProbes(t, server)
	for _, e := range server.Env {
		if e.Name == "GOMEMLIMIT" {
			wantHeap(t, e.Value, server.Resources.Limits.Memory().Value())
		}
	}
	if !slices.ContainsFunc(server.Env, func(e core.EnvVar) bool { return e.Name == "GOMEMLIMIT" }) {
		t.Error("the server is ended by the kernel before it collects its garbage: there is no GOMEMLIMIT")
	}
	if need := server.Lifecycle.PreStop.Sleep.Seconds + shutdownSeconds; *pod.Spec.TerminationGracePeriodSeconds <= need {
		t.Errorf("pods get %d s to end, which take up to %d", *pod.Spec.TerminationGracePeriodSeconds, need)
	}
	for _, spread := range pod.Spec.TopologySpreadConstraints {
		wantSelected(t, "the topology spread", spread.LabelSelector.MatchLabels, pod.Labels)
	}

	// The server's files are where its configuration says.
	file := argument(t, server.Args, "--config")
	v, name := mounted(t, pod.Spec, file)
	if v.ConfigMap == nil {
		t.Fatalf("the configuration is no ConfigMap: %+v", v)
	}
	configuration = named[*core.ConfigMap](t, all, v.ConfigMap.Name).Data[name]
	c := parseConfig(t, configuration)
	if v, _ := mounted(t, pod.Spec, c.Storage.Dir+"/x"); v.PersistentVolumeClaim == nil {
		t.Errorf("the storage is not kept: %+v", v)
	} else {
		wantShared(t, all, *deployment.Spec.Replicas, v.PersistentVolumeClaim.ClaimName)
	}
	if len(c.Tokens.Keys) == 0 {
		t.Error("replicas have no key that they share")
	}
	for _, key := range c.Tokens.Keys {
		if v, _ := mounted(t, pod.Spec, key.File); v.Secret == nil {
			t.Errorf("the key %s is not in a Secret", key.File)
		}
	}
	if want := ":9090"; c.HTTP.Addr != want || server.Ports[0].ContainerPort != 9090 {
		t.Errorf("the server listens on %s, and the container says %d", c.HTTP.Addr, server.Ports[0].ContainerPort)
	}

	for _, s := range every[*core.Service](all) {
		wantSelected(t, "the service "+s.Name, s.Spec.Selector, pod.Labels)
		for _, port := range s.Spec.Ports {
			if !hasPort(server, port.TargetPort.StrVal) {
				t.Errorf("the service %s wants port %v, and the container has %v", s.Name, port.TargetPort, server.Ports)
			}
		}
	}
	budget := the[*policy.PodDisruptionBudget](t, all)
	wantSelected(t, "the disruption budget", budget.Spec.Selector.MatchLabels, pod.Labels)
	wantIngress(t, all, c)
	wantMonitor(t, all)
	return configuration
}

func wantProbes(t *testing.T, server core.Container) {
	t.Helper()
	for path, probe := range map[string]*core.Probe{"/healthz": server.LivenessProbe, "/readyz": server.ReadinessProbe} {
		if probe == nil || probe.HTTPGet == nil || probe.HTTPGet.Path != path || !hasPort(server, probe.HTTPGet.Port.StrVal) {
			t.Errorf("the probe of %s is %+v", path, probe)
		}
	}
	// A server does not answer before it has fetched the layers of its recipes.
	start := server.StartupProbe
	if start == nil || start.HTTPGet == nil || start.HTTPGet.Path != "/healthz" || start.PeriodSeconds*start.FailureThreshold < 1800 {
		t.Errorf("the probe of the start is %+v", start)
	}
}

// wantHeap checks that garbage is collected well before the memory of the server is
// used up, and not all the time.
func wantHeap(t *testing.T, goMemoryLimit string, limit int64) {
	t.Helper()
	aim, err := resource.ParseQuantity(strings.TrimSuffix(goMemoryLimit, "B"))
	if err != nil {
		t.Errorf("GOMEMLIMIT %q: %v", goMemoryLimit, err)
		return
	}
	if got := float64(aim.Value()) / float64(limit); got < 0.7 || got > 0.85 {
		t.Errorf("GOMEMLIMIT %s is %.2f of the %d bytes that the server may use", goMemoryLimit, got, limit)
	}
}

func hasPort(c core.Container, name string) bool {
	return slices.ContainsFunc(c.Ports, func(p core.ContainerPort) bool { return p.Name == name })
}

// argument returns the value of a flag.
func argument(t *testing.T, args []string, flag string) string {
	t.Helper()
	for i, arg := range args {
		if value, ok := strings.CutPrefix(arg, flag+"="); ok {
			return value
		}
		if arg == flag && i+1 < len(args) {
			return args[i+1]
		}
	}
	t.Fatalf("there is no %s in %q", flag, args)
	return ""
}

// mounted returns the volume that has a file of the first container, and the
// file's name in it.
func mounted(t *testing.T, spec core.PodSpec, file string) (volume core.Volume, name string) {
	t.Helper()
	dir, name := path.Split(file)
	for _, m := range spec.Containers[0].VolumeMounts {
		if m.MountPath+"/" != dir {
			continue
		}
		for _, v := range spec.Volumes {
			if v.Name == m.Name {
				return v, name
			}
		}
	}
	t.Fatalf("no volume has %s", file)
	return
}

// wantShared checks that replicas can use a volume at the same time. A claim that is
// not among the objects belongs to another release.
func wantShared(t *testing.T, all objects, replicas int32, claim string) {
	t.Helper()
	for _, c := range every[*core.PersistentVolumeClaim](all) {
		if c.Name != claim {
			t.Errorf("no pod uses the claim %s", c.Name)
		}
		if shared := slices.Equal(c.Spec.AccessModes, []core.PersistentVolumeAccessMode{core.ReadWriteMany}); replicas > 1 && !shared {
			t.Errorf("%d replicas and a volume with %v", replicas, c.Spec.AccessModes)
		}
	}
}

func wantIngress(t *testing.T, all objects, c config) {
	t.Helper()
	for _, ingress := range every[*networking.Ingress](all) {
		host, err := url.Parse(c.HTTP.Host)
		if err != nil {
			t.Fatal(err)
		}
		rule := ingress.Spec.Rules[0]
		if rule.Host != host.Hostname() {
			t.Errorf("the ingress is for %s, and image names begin with %s", rule.Host, host)
		}
		for _, tls := range ingress.Spec.TLS {
			if !slices.Equal(tls.Hosts, []string{rule.Host}) {
				t.Errorf("the certificate is for %v", tls.Hosts)
			}
		}
		backend := rule.HTTP.Paths[0].Backend.Service
		wantServicePort(t, named[*core.Service](t, all, backend.Name), backend.Port.Name)
	}
}

func wantMonitor(t *testing.T, all objects) {
	t.Helper()
	for _, monitor := range every[*monitoring.ServiceMonitor](all) {
		read := 0
		for _, s := range every[*core.Service](all) {
			matches := true
			for k, v := range monitor.Spec.Selector.MatchLabels {
				matches = matches && s.Labels[k] == v
			}
			if matches {
				read++
				wantServicePort(t, s, monitor.Spec.Endpoints[0].Port)
			}
		}
		if read != 1 {
			t.Errorf("the monitor reads %d services", read)
		}
	}
}

func wantServicePort(t *testing.T, s *core.Service, name string) {
	t.Helper()
	if !slices.ContainsFunc(s.Spec.Ports, func(p core.ServicePort) bool { return p.Name == name }) {
		t.Errorf("the service %s has no port %s", s.Name, name)
	}
}

// wantNodes checks the DaemonSet, and that it finds the server: at the port of
// each node that a service has opened, or at server.
func wantNodes(t *testing.T, all objects, server string) {
	t.Helper()
	set := the[*apps.DaemonSet](t, all)
	pod := set.Spec.Template
	wantPod(t, pod.Spec)
	wantSelected(t, "the daemon set", set.Spec.Selector.MatchLabels, pod.Labels)
	container := pod.Spec.Containers[0]
	if v, _ := mounted(t, pod.Spec, argument(t, container.Args, "--dir")+"/x"); v.HostPath == nil {
		t.Errorf("hosts.toml is not written to the node: %+v", v)
	}
	for _, s := range every[*core.Service](all) {
		if pod.Labels["app.kubernetes.io/name"] == s.Spec.Selector["app.kubernetes.io/name"] &&
			pod.Labels["app.kubernetes.io/component"] == s.Spec.Selector["app.kubernetes.io/component"] {
			t.Errorf("the service %s takes the pods on nodes for servers", s.Name)
		}
	}
	wantHosts(t, container.Args)
	recipe := argument(t, container.Args, "--recipe")
	if !slices.ContainsFunc(every[*core.ConfigMap](all), func(m *core.ConfigMap) bool {
		_, ok := parseConfig(t, m.Data["config.yml"]).Recipes[recipe]
		return ok
	}) {
		t.Errorf("the server has no recipe %s", recipe)
	}
	got := argument(t, container.Args, "--server")
	if got != server {
		t.Errorf("nodes ask %s, want %s", got, server)
	}
	if !strings.Contains(got, "$(HOST_IP)") {
		return
	}
	if e := container.Env[0]; e.Name != "HOST_IP" || e.ValueFrom.FieldRef.FieldPath != "status.hostIP" {
		t.Errorf("the variable is %+v", e)
	}
	opened := slices.ContainsFunc(every[*core.Service](all), func(s *core.Service) bool {
		return s.Spec.Type == core.ServiceTypeNodePort && s.Spec.Ports[0].NodePort == 30090
	})
	if !opened {
		t.Error("no service opens port 30090 of the nodes")
	}
}

// wantHosts makes waveproxy write the files as on a node.
func wantHosts(t *testing.T, args []string) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	certificate, _ := selfSigned(t)
	var here []string
	for _, arg := range args {
		switch {
		case arg == "--watch", arg == "--remove":
			continue
		case strings.HasPrefix(arg, "--dir="):
			arg = "--dir=" + dir
		case strings.HasPrefix(arg, "--ca="):
			arg = "--ca=" + writeFile(t, filepath.Join(t.TempDir(), "ca.crt"), certificate)
		}
		here = append(here, strings.ReplaceAll(arg, "$(HOST_IP)", "10.0.0.7"))
	}
	wantSuccess(t, path, append(here, "--no-check")...) // the node's address is nowhere
	if text := readFile(t, filepath.Join(dir, "docker.io", "hosts.toml")); !strings.Contains(text, "override_path") {
		t.Errorf("nodes would have\n%s", text)
	}
	if !slices.Contains(args, "--watch") {
		t.Error("pods would end, and be started again and again")
	}
}
