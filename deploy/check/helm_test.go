package check

import (
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
)

const chartDir = "../helm/waveproxy"

// oldest is the oldest Kubernetes that the chart supports.
var oldest = chartutil.KubeVersion{Version: "v1.30.0", Major: "1", Minor: "30"}

// render renders the chart with values given as YAML.
func render(t *testing.T, release, values string) (objects, error) {
	t.Helper()
	chart, err := loader.Load(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	caps.KubeVersion = oldest
	if !chartutil.IsCompatibleRange(chart.Metadata.KubeVersion, oldest.Version) {
		t.Errorf("the chart is for Kubernetes %s", chart.Metadata.KubeVersion)
	}
	options := chartutil.ReleaseOptions{Name: release, Namespace: "waveproxy", Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, options, caps)
	if err != nil {
		return nil, err
	}
	files, err := engine.Render(chart, all)
	if err != nil {
		return nil, err
	}
	var found objects
	for name, text := range files {
		if base := path.Base(name); strings.HasSuffix(base, ".yaml") {
			found = append(found, decode(t, text)...)
		}
	}
	return found, nil
}

func mustRender(t *testing.T, values string) objects {
	t.Helper()
	all, err := render(t, "waveproxy", values)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// everything holds the settings that have no test of their own.
const everything = `
image: {repository: registry.local/waveproxy, tag: v1, pullPolicy: Always}
imagePullSecrets: [{name: regcred}]
replicas: 3
config:
  http: {host: "https://wave.example.net:8443"}
  tokens: {ttl: 168h}
  recipes:
    fusion: {env: [FUSION_LOG_LEVEL=info], images: ["docker.io/library/*"]}
  registries:
    quay.io: {username: ci, password_file: /run/secrets/quay/password}
tokenKey: {secret: keys, entries: [new, old]}
secrets: [quay, docker-hub]
env: [{name: HTTPS_PROXY, value: "http://proxy.local:3128"}]
storage: {size: 1Ti, storageClass: nfs}
service: {type: LoadBalancer, port: 8080, annotations: {a: b}}
ingress: {enabled: true, className: traefik, annotations: {a: b}}
nodes: {enabled: true, recipe: fusion, registries: [docker.io, "registry.local:5000"], keep: true}
serviceAccount: {create: true, annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/pull"}}
podAnnotations: {a: b}
nodeSelector: {a: b}
tolerations: [{key: a, operator: Exists}]
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
`

const metrics = "metrics: {enabled: true, serviceMonitor: {enabled: true, labels: {release: prometheus}}}"

func TestChart(t *testing.T) {
	for name, test := range map[string]struct {
		values string
		nodes  string // the server's URL for nodes
	}{
		"defaults":       {},
		"everything":     {everything, nodePortServer},
		"one replica":    {values: "{replicas: 1, storage: {accessMode: ReadWriteOnce}}"},
		"existing claim": {values: "{storage: {existingClaim: other}}"},
		"no host":        {values: "{config: {http: null}}"},
		"metrics":        {values: metrics},
		"nodes": {`nodes: {enabled: true, required: true, server: "https://wave.example.org", caConfigMap: wave-ca}`,
			"https://wave.example.org"},
	} {
		t.Run(name, func(t *testing.T) {
			all := mustRender(t, test.values)
			wantConfig(t, wantServer(t, all))
			if test.nodes != "" {
				wantNodes(t, all, test.nodes)
			} else if n := len(every[*apps.DaemonSet](all)); n != 0 {
				t.Errorf("%d daemon sets", n)
			}
			wantLinted(t, test.values)
		})
	}
}

func wantLinted(t *testing.T, values string) {
	t.Helper()
	given, err := chartutil.ReadValues([]byte(values))
	if err != nil {
		t.Fatal(err)
	}
	for _, message := range lint.AllWithKubeVersion(chartDir, given, "waveproxy", &oldest).Messages {
		if message.Severity > support.InfoSev {
			t.Errorf("helm lint: %v", message)
		}
	}
}

// TestChartSettings checks settings that none of the objects has by default.
func TestChartSettings(t *testing.T) {
	all := mustRender(t, everything)
	pod := the[*apps.Deployment](t, all).Spec.Template.Spec
	if got := pod.Containers[0].Image; got != "registry.local/waveproxy:v1" {
		t.Errorf("the image is %s", got)
	}
	c := parseConfig(t, wantServer(t, all))
	if keys := c.Tokens.Keys; len(keys) != 2 || keys[0].File != "/run/secrets/waveproxy/new" {
		t.Errorf("the keys are %v", keys)
	}
	if v, _ := mounted(t, pod, "/run/secrets/docker-hub/password"); v.Secret.SecretName != "docker-hub" {
		t.Errorf("the secret is %+v", v.Secret)
	}
	if got := the[*core.ServiceAccount](t, all).Name; got != pod.ServiceAccountName {
		t.Errorf("the service account %s is made, and %s used", got, pod.ServiceAccountName)
	}
	if got := the[*apps.Deployment](t, mustRender(t, "{replicas: 1, storage: {accessMode: ReadWriteOnce}}")).Spec.Strategy.Type; got != apps.RecreateDeploymentStrategyType {
		t.Errorf("two pods would want a volume for one: %s", got)
	}
	before := the[*apps.Deployment](t, mustRender(t, "")).Spec.Template.Annotations
	after := the[*apps.Deployment](t, mustRender(t, "{config: {log: {level: debug}}}")).Spec.Template.Annotations
	if cmp.Equal(before, after) {
		t.Error("pods would not read a new configuration")
	}
}

// TestChartNodes: files are removed with the pods that wrote them, unless the values
// keep them, and nodes trust the server.
func TestChartNodes(t *testing.T) {
	for values, want := range map[string]bool{"{enabled: true}": true, "{enabled: true, keep: true, required: true}": false} {
		args := the[*apps.DaemonSet](t, mustRender(t, "nodes: "+values)).Spec.Template.Spec.Containers[0].Args
		if slices.Contains(args, "--remove") != want || slices.Contains(args, "--required") == want {
			t.Errorf("%s: %q", values, args)
		}
	}
	pod := the[*apps.DaemonSet](t, mustRender(t, `nodes: {enabled: true, server: "https://wave.example.org", caConfigMap: wave-ca}`)).Spec.Template.Spec
	if v, name := mounted(t, pod, argument(t, pod.Containers[0].Args, "--ca")); v.ConfigMap == nil || v.ConfigMap.Name != "wave-ca" || name != "ca.crt" {
		t.Errorf("the authority is %s of %+v", name, v)
	}
}

// TestChartMetrics: the port for the operator is on no service that clients use.
func TestChartMetrics(t *testing.T) {
	all := mustRender(t, metrics)
	if c := parseConfig(t, wantServer(t, all)); c.HTTP.Debug.Addr != ":9091" {
		t.Errorf("the metrics are at %q", c.HTTP.Debug.Addr)
	}
	if ports := named[*core.Service](t, all, "waveproxy").Spec.Ports; len(ports) != 1 {
		t.Errorf("clients see %v", ports)
	}
}

func TestChartRefuses(t *testing.T) {
	for name, test := range map[string]struct{ values, says string }{
		"misspelt":             {"{replica: 2}", "replica"},
		"misspelt below":       {"{nodes: {enable: true}}", "enable"},
		"storage for one":      {"{storage: {accessMode: ReadWriteOnce}}", "storage.accessMode"},
		"address":              {"{config: {http: {addr: ':80'}}}", "config.http.addr"},
		"debug address":        {"{config: {http: {debug: {addr: ':80'}}}}", "use metrics"},
		"storage directory":    {"{config: {storage: {dir: /x}}}", "config.storage"},
		"keys in a ConfigMap":  {"{config: {tokens: {keys: [{key: x}]}}}", "use tokenKey"},
		"nodes without recipe": {"{nodes: {enabled: true, recipe: other}}", "nodes.recipe"},
		"nothing to monitor":   {"{metrics: {serviceMonitor: {enabled: true}}}", "metrics.enabled"},
		"ingress for no host":  {"{ingress: {enabled: true}, config: {http: null}}", "config.http.host"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := render(t, "waveproxy", test.values)
			if err == nil || !strings.Contains(err.Error(), test.says) {
				t.Errorf("the chart says %v, want something about %s", err, test.says)
			}
		})
	}
}

// TestChartNames: every name of a release makes names that Kubernetes accepts.
func TestChartNames(t *testing.T) {
	for _, release := range []string{"wave", "my-waveproxy", strings.Repeat("long-", 10) + "abc"} {
		all, err := render(t, release, "{nodes: {enabled: true}, metrics: {enabled: true}}")
		if err != nil {
			t.Fatal(err)
		}
		wantServer(t, all)
		for _, s := range every[*core.Service](all) {
			if len(s.Name) > 63 || !strings.Contains(s.Name, "wave") && !strings.Contains(s.Name, "long") {
				t.Errorf("release %s has the service %s (%d characters)", release, s.Name, len(s.Name))
			}
		}
	}
}

// TestChartIsManifests keeps the chart's defaults and the plain manifests alike.
func TestChartIsManifests(t *testing.T) {
	plain := manifests(t)
	chart := mustRender(t, "nodes: {enabled: true, registries: [docker.io, quay.io]}")
	ignored := cmp.Options{
		cmpopts.IgnoreFields(core.TopologySpreadConstraint{}, "LabelSelector"),
		cmpopts.IgnoreFields(core.Container{}, "ImagePullPolicy"),
	}
	for what, pair := range map[string][2]any{
		"server":        {the[*apps.Deployment](t, plain).Spec.Template.Spec, the[*apps.Deployment](t, chart).Spec.Template.Spec},
		"nodes":         {the[*apps.DaemonSet](t, plain).Spec.Template.Spec, the[*apps.DaemonSet](t, chart).Spec.Template.Spec},
		"claim":         {the[*core.PersistentVolumeClaim](t, plain).Spec, the[*core.PersistentVolumeClaim](t, chart).Spec},
		"configuration": {wantConfig(t, wantServer(t, plain)), wantConfig(t, wantServer(t, chart))},
	} {
		if diff := cmp.Diff(pair[0], pair[1], ignored); diff != "" {
			t.Errorf("%s: - manifests, + chart:\n%s", what, diff)
		}
	}
}
