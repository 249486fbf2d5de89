package check

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"

	monitoring "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	apps "k8s.io/api/apps/v1"
	core "k8s.io/api/core/v1"
	networking "k8s.io/api/networking/v1"
	policy "k8s.io/api/policy/v1"
	meta "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
)

var decoder = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		core.AddToScheme, apps.AddToScheme, policy.AddToScheme, networking.AddToScheme, monitoring.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

// objects are decoded manifests.
type objects []runtime.Object

// decode returns the objects in manifests. Keys that Kubernetes does not know are
// errors, and so are keys given twice.
func decode(t *testing.T, text string) (all objects) {
	t.Helper()
	reader := utilyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		if isBlank(document) {
			continue
		}
		object, _, err := decoder.Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%v\n%s", err, document)
		}
		all = append(all, object)
	}
}

// isBlank reports whether there is nothing but comments.
func isBlank(document []byte) bool {
	for line := range bytes.Lines(document) {
		if line = bytes.TrimSpace(line); len(line) > 0 && line[0] != '#' {
			return false
		}
	}
	return true
}

// every returns the objects of a type.
func every[T runtime.Object](all objects) (found []T) {
	for _, object := range all {
		if o, ok := object.(T); ok {
			found = append(found, o)
		}
	}
	return found
}

// the returns the only object of a type.
func the[T runtime.Object](t *testing.T, all objects) T {
	t.Helper()
	found := every[T](all)
	if len(found) != 1 {
		t.Fatalf("%d objects of type %T, want one", len(found), *new(T))
	}
	return found[0]
}

// named returns the object of a type with a name.
func named[T interface {
	runtime.Object
	meta.Object
}](t *testing.T, all objects, name string) T {
	t.Helper()
	for _, o := range every[T](all) {
		if o.GetName() == name {
			return o
		}
	}
	t.Fatalf("no %T has the name %s", *new(T), name)
	return *new(T)
}

// wantPod checks the rules for all pods: they may do no more than they need, state the
// resources they use, and mount only volumes they have.
func wantPod(t *testing.T, spec core.PodSpec) {
	t.Helper()
	if spec.EnableServiceLinks == nil || *spec.EnableServiceLinks {
		t.Error("enableServiceLinks: variables like WAVEPROXY_PORT would end the server")
	}
	if spec.AutomountServiceAccountToken == nil || *spec.AutomountServiceAccountToken {
		t.Error("automountServiceAccountToken is not false")
	}
	if s := spec.SecurityContext; s == nil || s.SeccompProfile == nil || s.SeccompProfile.Type != core.SeccompProfileTypeRuntimeDefault {
		t.Error("seccompProfile is not RuntimeDefault")
	}
	volumes := map[string]bool{}
	for _, v := range spec.Volumes {
		if volumes[v.Name] {
			t.Errorf("two volumes have the name %s", v.Name)
		}
		volumes[v.Name] = true
	}
	for _, c := range slices.Concat(spec.InitContainers, spec.Containers) {
		s := c.SecurityContext
		if s == nil || s.AllowPrivilegeEscalation == nil || *s.AllowPrivilegeEscalation ||
			s.ReadOnlyRootFilesystem == nil || !*s.ReadOnlyRootFilesystem ||
			s.Capabilities == nil || !slices.Equal(s.Capabilities.Drop, []core.Capability{"ALL"}) || len(s.Capabilities.Add) > 0 ||
			s.Privileged != nil || s.RunAsUser != nil {
			t.Errorf("container %s may do too much: %+v", c.Name, s)
		}
		for _, amount := range []core.ResourceList{c.Resources.Requests, c.Resources.Limits} {
			if amount.Memory().IsZero() {
				t.Errorf("container %s does not say how much memory it uses", c.Name)
			}
		}
		if c.Resources.Requests.Cpu().IsZero() {
			t.Errorf("container %s does not say how much CPU it uses", c.Name)
		}
		paths := map[string]bool{}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] || paths[m.MountPath] {
				t.Errorf("container %s mounts %s at %s: there is no such volume, or the path is taken", c.Name, m.Name, m.MountPath)
			}
			paths[m.MountPath] = true
		}
	}
}

// wantSelected checks that labels select these pods.
func wantSelected(t *testing.T, what string, selector map[string]string, pod map[string]string) {
	t.Helper()
	if len(selector) == 0 || !labels.SelectorFromSet(selector).Matches(labels.Set(pod)) {
		t.Errorf("%s selects %v, and the pods have %v", what, selector, slices.Collect(maps.Keys(pod)))
	}
}
