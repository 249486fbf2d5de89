package augment

import (
	"archive/tar"
	"fmt"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// TestChainNeedsEnv: a chain of two wrappers is made only in an image that can start the
// inner one. No layer is read for a chain of one.
func TestChainNeedsEnv(t *testing.T) {
	const (
		wrapped = `{"Entrypoint":["/wrap/a"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`
		missing = "needs the program env"
	)
	env := file{name: "bin/env", mode: 0o755}
	for name, test := range map[string]struct {
		config string
		base   [][]file
		added  []file
		os     string
		says   string
	}{
		"distroless":            {wrapped, [][]file{{{name: "app"}}}, nil, "linux", missing},
		"in the base":           {wrapped, [][]file{{env}}, nil, "linux", ""},
		"behind links":          {wrapped, [][]file{{link("bin", "usr/bin"), link("usr/bin/env", "/usr/lib/box/box"), {name: "usr/lib/box/box"}}}, nil, "linux", ""},
		"a link to nothing":     {wrapped, [][]file{{link("usr/bin/env", "busybox")}}, nil, "linux", missing},
		"a link in a circle":    {wrapped, [][]file{{link("usr/bin/env", "env")}}, nil, "linux", missing},
		"a directory":           {wrapped, [][]file{{dir("usr/bin/env/")}}, nil, "linux", missing},
		"removed":               {wrapped, [][]file{{env}, {{name: "bin/.wh.env"}}}, nil, "linux", missing},
		"hidden":                {wrapped, [][]file{{env}, {{name: "bin/.wh..wh..opq"}, {name: "bin/sh"}}}, nil, "linux", missing},
		"added":                 {wrapped, [][]file{{{name: "app"}}}, []file{env}, "linux", ""},
		"removed by the recipe": {wrapped, [][]file{{env}}, []file{{name: "bin/.wh.env", kind: tar.TypeReg}}, "linux", missing},
		"not in PATH":           {`{"Entrypoint":["/wrap/a"],"Env":["PATH=/sbin:x:","WAVE_ENTRY_CHAIN=/app"]}`, [][]file{{env}}, nil, "linux", missing},
		"in the image's PATH":   {`{"Entrypoint":["/wrap/a"],"Env":["PATH=/opt/tools","WAVE_ENTRY_CHAIN=/app"]}`, [][]file{{{name: "opt/tools/env"}}}, nil, "linux", ""},
		"fusion, nothing below": {`{"Entrypoint":["/usr/bin/fusion"]}`, [][]file{{{name: "app"}}}, nil, "linux", missing},
		"one wrapper":           {`{"Entrypoint":["/app","a b"],"Cmd":["x"]}`, nil, nil, "linux", ""},
		"a command alone":       {`{"Cmd":["/app"]}`, nil, nil, "linux", ""},
		"a shell's entrypoint":  {`{"Entrypoint":["/bin/sh","-c","exec /app"]}`, nil, nil, "linux", ""},
		"the same wrapper":      {`{"Entrypoint":["/wrap/b"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, nil, nil, "linux", ""},
		"the base's own chain":  {`{"Entrypoint":["/wrap/b"],"Env":["WAVE_ENTRY_CHAIN=[\"env\",\"WAVE_ENTRY_CHAIN=/app\",\"/wrap/a\"]"]}`, nil, nil, "linux", ""},
		"Windows":               {wrapped, nil, nil, "windows", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMemory()
			layers := test.base
			if layers == nil {
				layers = [][]file{{env}}
			}
			m.stacked("1", test.os, layers...)
			refs, err := m.objects["1"].References(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			config := m.add(ocispec.MediaTypeImageConfig, strings.TrimSuffix(string(m.objects[refs.Config.Digest.String()].Data), "}")+`,"config":`+test.config+"}")
			m.add(ocispec.MediaTypeImageManifest, strings.Replace(string(m.objects["1"].Data), descriptor(m.objects[refs.Config.Digest.String()]), descriptor(config), 1), "1")
			recipe := Recipe{Entrypoint: []string{"/wrap/b"}}
			if test.added != nil {
				recipe.Layers = []Layer{m.layer(archive(test.added...))}
			}
			m.asked = nil
			_, err = apply(t, m, "1", recipe, "")
			if test.says == "" && err != nil || test.says != "" && !strings.Contains(fmt.Sprint(err), test.says) {
				t.Errorf("error %v, want %q", err, test.says)
			}
			if asked := strings.Contains(strings.Join(m.asked, "\n"), "layer "); asked != (test.base != nil) {
				t.Errorf("the layers were read: %v, from %q", asked, m.asked)
			}
		})
	}
}
