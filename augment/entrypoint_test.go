package augment

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// startOf runs a container's first processes as far as they are wrappers, and
// returns what was started: wrappers and fusion read WAVE_ENTRY_CHAIN, start it
// and give it their arguments, or start the arguments if there is none.
func startOf(t *testing.T, c ocispec.ImageConfig) string {
	t.Helper()
	chain := ""
	for _, e := range c.Env {
		if v, ok := strings.CutPrefix(e, entryChain+"="); ok {
			chain = v // the last one counts
		}
	}
	words := slices.Concat(c.Entrypoint, c.Cmd)
	var started []string
	for len(words) > 0 {
		if len(started) > 8 {
			return "starts itself: " + strings.Join(started, " > ")
		}
		switch {
		case words[0] == "env" && len(words) > 2 && words[1] == "-u":
			chain, words = "", words[3:]
		case words[0] == "env" && len(words) > 1 && strings.HasPrefix(words[1], entryChain+"="):
			chain, words = strings.TrimPrefix(words[1], entryChain+"="), words[2:]
		case words[0] == "tini" && len(words) > 2:
			words = words[2:]
		case words[0] == "/entry" && len(words) > 1: // runs its arguments, like many entrypoints
			started, words = append(started, words[0]), words[1:]
		case strings.HasPrefix(words[0], "/wrap/") || strings.HasSuffix(words[0], "fusion"):
			started = append(started, words[0])
			var next []string
			if json.Unmarshal([]byte(chain), &next) != nil && chain != "" {
				next = strings.Fields(chain)
			}
			args := words[1:]
			for len(args) > 0 && strings.HasPrefix(args[0], "--") {
				args = args[1:] // the wrapper's own
			}
			words = slices.Concat(next, args)
		default:
			return strings.Join(append(started, strings.Join(words, " ")), " > ")
		}
	}
	return strings.Join(started, " > ")
}

// again augments the image that a config makes, as a registry gives it: only
// the config and its layers' number count.
func again(t *testing.T, config string, r Recipe) (string, ocispec.ImageConfig) {
	t.Helper()
	m := newMemory()
	layer := m.layer(archive(file{name: "bin/env", mode: 0o755}))
	config = strings.Replace(config, `"rootfs":{}`, fmt.Sprintf(`"rootfs":{"type":"layers","diff_ids":[%q]}`, layer.DiffID), 1)
	base := m.add(ocispec.MediaTypeImageConfig, config)
	m.add(ocispec.MediaTypeImageManifest, fmt.Sprintf(`{"schemaVersion":2,"config":%s,"layers":[{"mediaType":%q,"digest":%q,"size":%d}]}`,
		descriptor(base), ocispec.MediaTypeImageLayerGzip, layer.Digest, layer.Size), "latest")
	img := mustApply(t, m, "latest", r, "")
	refs, err := img.object(t, img.Root.Digest).References(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	data := img.object(t, refs.Config.Digest).Data
	var c struct {
		Config ocispec.ImageConfig `json:"config"`
	}
	if err := json.Unmarshal(data, &c); err != nil && !strings.Contains(err.Error(), "Entrypoint") {
		t.Fatal(err)
	}
	return string(data), c.Config
}

// TestEntryChain: whatever was augmented before, by this server or by Wave,
// each wrapper starts once, the base's program is at the end, and the oldest
// wrapper is the innermost.
func TestEntryChain(t *testing.T) {
	fusion := []string{"/usr/bin/fusion"}
	for _, test := range []struct {
		name   string
		config string // the base's member "config"
		made   bool   // by this server
		added  []string
		want   string
	}{
		{"plain", `{"Entrypoint":["/app","--a b"],"Cmd":["x"]}`, false, fusion, "/usr/bin/fusion > /app --a b x"},
		{"same words", `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app"],"Cmd":["x"]}`, false, fusion, "/usr/bin/fusion > /app x"},
		{"same words, nothing below", `{"Entrypoint":["/usr/bin/fusion"],"Cmd":["x"]}`, false, fusion, "/usr/bin/fusion > x"},
		{"other arguments", `{"Entrypoint":["/wrap/a","--old"],"Env":["WAVE_ENTRY_CHAIN=[\"/app\",\"y\"]"]}`, false, []string{"/wrap/a", "--new"}, "/wrap/a > /app y"},
		{"found by PATH", `{"Entrypoint":["fusion"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, fusion, "/usr/bin/fusion > /app"},
		{"not in PATH", `{"Entrypoint":["start.sh"],"Cmd":["x"]}`, false, []string{"/wrap/start.sh"}, "/wrap/start.sh > start.sh x"},
		{"in the image's PATH", `{"Entrypoint":["a"],"Env":["PATH=/bin:/wrap","WAVE_ENTRY_CHAIN=/app"]}`, false, []string{"/wrap/a"}, "/wrap/a > /app"},
		{"spelled otherwise", `{"Entrypoint":["/wrap/../wrap/a"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, []string{"/wrap/a"}, "/wrap/a > /app"},
		{"string", `{"Entrypoint":"/usr/bin/fusion","Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, fusion, "/usr/bin/fusion > /app"},
		{"empty arrays", `{"Entrypoint":[],"Cmd":[],"Env":[]}`, false, fusion, "/usr/bin/fusion"},
		{"an empty word", `{"Entrypoint":[""],"Cmd":["x"]}`, false, fusion, "/usr/bin/fusion > x"},
		{"supervisor", `{"Entrypoint":["tini","--","/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, fusion, "/usr/bin/fusion > /app"},
		{"shell form", `{"Entrypoint":["/bin/sh","-c","exec /wrap/a --q"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, []string{"/wrap/a"}, "/wrap/a > /app"},
		{"shells are not one program", `{"Entrypoint":["/bin/sh","/app.sh"]}`, false, []string{"/bin/sh", "/wrap.sh"}, "/bin/sh /wrap.sh"},
		{"Wave, twice", `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app","A=1","WAVE_ENTRY_CHAIN=/usr/bin/fusion"]}`, false, fusion, "/usr/bin/fusion > /app"},
		{"Wave, three times", `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app","WAVE_ENTRY_CHAIN=/usr/bin/fusion","WAVE_ENTRY_CHAIN=/usr/bin/fusion"]}`, false, []string{"/wrap/b"}, "/wrap/b > /usr/bin/fusion > /app"},
		{"Wave, twice, entrypoint kept", `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app","WAVE_ENTRY_CHAIN=/usr/bin/fusion"]}`, false, nil, "/usr/bin/fusion > /app"},
		{"Wave's own loop", `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/usr/bin/fusion"],"Cmd":["x"]}`, false, fusion, "/usr/bin/fusion > x"},
		{"Wave, layers only, before", `{"Entrypoint":["/app"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, fusion, "/usr/bin/fusion > /app"},
		{"Wave, built", `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app --a b"]}`, false, fusion, "/usr/bin/fusion > /app --a b"},
		{"two wrappers", `{"Entrypoint":["/wrap/a"],"Env":["WAVE_ENTRY_CHAIN=/app"],"Cmd":["x"]}`, false, []string{"/wrap/b"}, "/wrap/b > /wrap/a > /app x"},
		{"two wrappers, words", `{"Entrypoint":["/wrap/a","--q"],"Env":["WAVE_ENTRY_CHAIN=[\"/app\",\"y z\"]"]}`, false, []string{"/wrap/b"}, "/wrap/b > /wrap/a > /app y z"},
		{"a wrapper with nothing below", `{"Entrypoint":["/wrap/a"],"Cmd":["x"]}`, true, []string{"/wrap/b"}, "/wrap/b > /wrap/a > x"},
		{"another fusion", `{"Entrypoint":["/opt/fusion"],"Cmd":["x"]}`, false, fusion, "/usr/bin/fusion > /opt/fusion > x"},
		{"started by the entrypoint", `{"Entrypoint":["/entry","/wrap/a"],"Cmd":["x"]}`, false, []string{"/wrap/a"}, "/wrap/a > /entry > /wrap/a > x"},
		{"kept, with a chain", `{"Entrypoint":["/wrap/a"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, nil, "/wrap/a > /app"},
		{"kept, nothing below", `{"Entrypoint":["/wrap/a"],"Cmd":["x"]}`, true, nil, "/wrap/a > x"},
		{"kept fusion, nothing below", `{"Entrypoint":["/usr/bin/fusion"],"Cmd":["x"]}`, false, nil, "/usr/bin/fusion > x"},
		{"no entrypoint, old chain", `{"Env":["WAVE_ENTRY_CHAIN=/app"]}`, false, fusion, "/usr/bin/fusion > /app"},
	} {
		t.Run(test.name, func(t *testing.T) {
			history := `[]`
			if test.made {
				history = `[{"created_by":"waveproxy: add layer sha256:1","empty_layer":true}]`
			}
			_, c := again(t, fmt.Sprintf(`{"architecture":"amd64","os":"linux","rootfs":{},"history":%s,"config":%s}`, history, test.config),
				Recipe{Entrypoint: test.added, Env: []string{"ADDED=1"}})
			if got := startOf(t, c); got != test.want {
				t.Errorf("started %s, want %s (entrypoint %q, environment %q)", got, test.want, c.Entrypoint, c.Env)
			}
		})
	}
}

// TestEntryChainOfMany adds four wrappers one after the other, each a second
// time at every place: the image stays one in which each starts once.
func TestEntryChainOfMany(t *testing.T) {
	config := `{"architecture":"amd64","os":"linux","rootfs":{},"config":{"Entrypoint":["/app","a \"b\""],"Cmd":["x"]}}`
	want := `/app a "b" x`
	for _, name := range []string{"/wrap/a", "/usr/bin/fusion", "/wrap/b", "/wrap/c"} {
		want = name + " > " + want
		for range 2 {
			var c ocispec.ImageConfig
			config, c = again(t, config, Recipe{Entrypoint: []string{name}})
			if got := startOf(t, c); got != want {
				t.Fatalf("started %s, want %s (environment %q)", got, want, c.Env)
			}
		}
	}
	// One that is further in moves to the front and does not stay where it was.
	_, c := again(t, config, Recipe{Entrypoint: []string{"/wrap/a"}})
	if got, want := startOf(t, c), `/wrap/a > /wrap/c > /wrap/b > /usr/bin/fusion > /app a "b" x`; got != want {
		t.Errorf("started %s, want %s", got, want)
	}
}

// TestEntryChainForm: images that were never augmented get exactly what Wave makes.
func TestEntryChainForm(t *testing.T) {
	for base, want := range map[string][]string{
		`{"Entrypoint":["/app"]}`:                         {"WAVE_ENTRY_CHAIN=/app"},
		`{"Entrypoint":["/app","--a b"]}`:                 {`WAVE_ENTRY_CHAIN=["/app","--a b"]`},
		`{"Entrypoint":"/app"}`:                           {"WAVE_ENTRY_CHAIN=/app"},
		`{"Entrypoint":["/bin/sh","-c","exec app"]}`:      {`WAVE_ENTRY_CHAIN=["/bin/sh","-c","exec app"]`},
		`{"Env":["A=1"],"Cmd":["x"]}`:                     {"A=1"},
		`{"Entrypoint":[""],"Env":["WAVE_ENTRY_CHAIN="]}`: {},
	} {
		_, c := again(t, `{"architecture":"amd64","os":"linux","rootfs":{},"config":`+base+`}`, Recipe{Entrypoint: []string{"/wrap/a"}})
		if diff := cmp.Diff(want, c.Env); diff != "" {
			t.Errorf("%s (-want +got):\n%s", base, diff)
		}
	}
}

func TestProgram(t *testing.T) {
	for command, want := range map[string]string{
		"":                              "",
		"/app|-c|x":                     "/app",
		"bash":                          "bash",
		"bash|-l":                       "bash -l",
		"/bin/bash|-euo|pipefail|/x.sh": "pipefail", // options with values are not known; the chain is longer than it must be
		"/bin/sh|-lc|exec /a b":         "/a",
		"/bin/sh|-c|/a && /b":           "/a && /b",
		"tini|-g|--|/a":                 "/a",
		"/sbin/tini|--|bash|-c|/a":      "/a",
		"env|-i|A=1|/a":                 "/a",
		"gosu|app|/a":                   "/a",
		"java|-jar|/x.jar":              "/x.jar",
		"python3|-c|import x":           "import",
	} {
		if got := program(strings.Split(command, "|")); got != want {
			t.Errorf("%s: %q, want %q", command, got, want)
		}
	}
}

// TestUpon: recipes that add up do what they do one after the other.
func TestUpon(t *testing.T) {
	recipes := []Recipe{
		{Env: []string{"A=1", "B=1"}, Entrypoint: []string{"/wrap/a"}},
		{Env: []string{"B=2"}, Entrypoint: []string{"/wrap/b", "--q"}, Cmd: []string{"c"}},
		{Entrypoint: []string{"/usr/bin/fusion"}, WorkingDir: "/w"},
		{Env: []string{"C=3"}},
		{Entrypoint: []string{"/wrap/a"}},
	}
	for _, base := range []string{`{"Entrypoint":["/app","x y"],"Env":["A=0"]}`, `{}`, `{"Entrypoint":["/usr/bin/fusion"],"Env":["WAVE_ENTRY_CHAIN=/app"]}`} {
		for i := range recipes {
			start := `{"architecture":"amd64","os":"linux","rootfs":{},"history":[{"created_by":"waveproxy: add layer sha256:1","empty_layer":true}],"config":` + base + `}`
			config, sum := start, Recipe{}
			for j := range recipes {
				r := recipes[(i+j)%len(recipes)]
				config, _ = again(t, config, r)
				sum = r.Upon(sum)
				if together, _ := again(t, start, sum); together != config {
					t.Fatalf("base %s, recipes %d to %d:\n%s, one after the other\n%s", base, i, i+j, together, config)
				}
			}
		}
	}
	trusting := Recipe{Certificates: []string{"B"}, ExtendEnv: []string{"PATH=/opt:${PATH}"}}
	for _, below := range []Recipe{{Certificates: []string{"A"}}, {Certificates: []string{"B", "A"}, Env: []string{"C=1"}}, {}} {
		once := trusting.Upon(below)
		if twice := trusting.Upon(once); !twice.Equal(once) {
			t.Errorf("upon %v, a second time it is %v, and not %v", below, twice, once)
		}
	}
	a, b := Layer{Digest: "sha256:a"}, Layer{Digest: "sha256:b"}
	below := Recipe{Layers: []Layer{a, b}, Env: []string{"A=1"}}
	if got := (Recipe{Layers: []Layer{a}, Cmd: []string{"c"}}).Upon(below); !slices.EqualFunc(got.Layers, []Layer{b, a}, Layer.equal) {
		t.Errorf("layers %v: want the repeated one once, on top", got.Layers)
	}
	top := Recipe{Cmd: []string{"c"}}
	if sum := top.Upon(below); !top.Upon(sum).Equal(sum) || !below.Upon(below).Equal(below) {
		t.Error("a recipe upon itself is not itself")
	}
	deep := Recipe{}
	for i := range maxBelow + 2 {
		deep = Recipe{Env: []string{fmt.Sprint("A=", i)}}.Upon(deep)
	}
	if err := deep.Validate(); err == nil {
		t.Error("any number of recipes may stand below one another")
	}
}
