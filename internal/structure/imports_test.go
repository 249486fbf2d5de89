package structure

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/waveproxy/waveproxy/"

// allowed says what each package may import of ours, directly or not. Imports
// point one way: cmd -> {api, recipes, registry} -> {containerconfig,
// assemble, front, upstream} -> {auth, augment, blobstore}.
var allowed = map[string][]string{
	"augment":             {},
	"augment/archivetest": {},
	"layerindex":          {},
	"rootfs":              {},
	"blobstore":           {},
	"blobstore/storetest": {"blobstore"},
	"blobstore/cache":     {"blobstore"},
	// Object storages: only cmd may import packages that use their SDKs.
	"blobstore/internal/remote": {},
	"blobstore/s3":              {"blobstore", "blobstore/internal/remote"},
	"bench":                     {},
	"auth":                      {"augment", "internal/flight"},
	// Clouds: only cmd may import packages that use their SDKs.
	"auth/internal/cloud":           {"auth", "augment", "internal/flight"},
	"auth/internal/cloud/cloudtest": {"auth/internal/cloud", "auth", "augment", "internal/flight"},
	"auth/ecr":                      {"auth/internal/cloud", "auth", "augment", "internal/flight"},
	"auth/gar":                      {"auth/internal/cloud", "auth", "augment", "internal/flight"},
	"auth/acr":                      {"auth/internal/cloud", "auth", "augment", "internal/flight"},
	"upstream":                      {"auth", "augment", "internal/flight"},
	"upstream/upstreamtest":         {"augment/archivetest"},
	"auth/oidc":                     {"auth", "augment", "internal/flight"},
	"ratelimit":                     {},
	"internal/byterange":            {},
	"internal/brief":                {},
	"internal/durable":              {},
	"internal/fairqueue":            {},
	"internal/flight":               {},
	"internal/jsonlimit":            {},
	"internal/pack":                 {},
	"internal/sizedlru":             {},
	"internal/truststore":           {},
	"internal/unpack":               {},
	"budget":                        {},
	"internal/yamlstrict":           {},
	"front":                         {"auth", "augment", "ratelimit", "upstream", "internal/flight"},
	"assemble":                      {"auth", "augment", "blobstore", "internal/flight", "upstream"},
	"registry":                      {"assemble", "auth", "augment", "blobstore", "blobstore/cache", "front", "internal/flight", "ratelimit", "upstream"},
	"metrics":                       {"front", "auth", "augment", "ratelimit", "upstream", "internal/flight"},
	"containerconfig":               {"assemble", "auth", "augment", "blobstore", "front", "internal/flight", "ratelimit", "upstream"},
	"api":                           {"containerconfig", "assemble", "auth", "augment", "blobstore", "front", "internal/flight", "ratelimit", "upstream"},
	"recipes":                       {"containerconfig", "assemble", "auth", "augment", "blobstore", "front", "internal/flight", "ratelimit", "upstream"},
	"config": {
		"auth", "augment", "internal/yamlstrict", "ratelimit",
		"containerconfig", "assemble", "blobstore", "front", "internal/flight", "upstream",
	},
	"cmd/waveproxy/demo": {"blobstore"},
	"cmd/waveproxy": {
		"api", "registry", "auth", "augment", "blobstore", "blobstore/cache", "metrics", "ratelimit", "upstream", "cmd/waveproxy/demo",
		"assemble", "containerconfig", "front", "internal/flight", "config", "internal/yamlstrict",
		"auth/ecr", "auth/gar", "auth/acr", "auth/internal/cloud", "auth/oidc", "recipes",
		"blobstore/s3", "blobstore/internal/remote",
	},
	"internal/structure":      {},
	"integration":             {},
	"integration/api":         {},
	"integration/attack":      {},
	"integration/cli":         {},
	"integration/clients":     {},
	"integration/conformance": {},
	"integration/engine":      {},
	"integration/engines":     {},
	"integration/fault":       {},
	"integration/harness":     {"integration/engine", "integration/upstream"},
	"integration/node":        {},
	"integration/private":     {},
	"integration/pull":        {},
	"integration/recipes":     {},
	"integration/replicas":    {},
	"integration/rootfs":      {},
	"integration/soak":        {},
	"integration/upstream":    {},
}

// anywhere are packages of ours that every other may import. Each imports nothing
// of ours but others of them: a few calls of the operating system, shared work, or
// the bounds of what requests cost. Indexes of layers are values that pass through many
// hands.
var anywhere = []string{"internal/byterange", "layerindex", "rootfs",
	"budget", "internal/brief", "internal/durable", "internal/fairqueue", "internal/flight", "internal/jsonlimit", "internal/pack", "internal/sizedlru",
	"internal/truststore", "internal/unpack",
}

// never holds the lines that no edit of allowed may cross: packages of ours that
// the named one must not reach, directly or not.
var never = map[string][]string{
	// The two planes and the recipes that the configuration names are peers. What
	// they share is below them: front, assemble, containerconfig.
	"api":             {"registry", "recipes"},
	"recipes":         {"registry", "api"},
	"containerconfig": {"registry", "api", "recipes"},
	"registry":        {"api", "recipes", "containerconfig"},
	// Making images is not serving them.
	"assemble": {"front", "api", "registry", "recipes", "containerconfig", "ratelimit", "metrics"},
	"front":    {"assemble", "api", "registry", "recipes", "containerconfig", "blobstore", "metrics"},
	"upstream": {"front", "assemble", "blobstore"},
	// What images are made of and where bytes are kept know nothing of each other.
	"augment":   {"auth", "blobstore", "upstream"},
	"blobstore": {"auth", "augment", "upstream"},
	"auth":      {"blobstore", "upstream", "front"},
}

// onlyFor are packages of ours that only the named ones may reach, directly or
// not.
var onlyFor = map[string][]string{
	"config":             {"cmd/waveproxy"},
	"metrics":            {"cmd/waveproxy"},
	"cmd/waveproxy/demo": {"cmd/waveproxy"},
	"blobstore/s3":       {"cmd/waveproxy"},
}

// apart are the folders whose packages import nothing of ours outside the folder
// and are imported by nothing outside: they see waveproxy as its users do.
var apart = []string{"integration", "bench"}

// forbidden are packages that some of ours must not reach at all.
var forbidden = map[string][]string{
	"augment":    {"net/http", "os/exec", "oras.land/oras-go/v2", "github.com/distribution/distribution/v3"},
	"blobstore":  {"oras.land/oras-go/v2", "github.com/distribution/distribution/v3"},
	"layerindex": {"net/http", "os/exec"},
	"rootfs":     {"net/http", "os/exec"},
	"auth":       {"github.com/distribution/distribution/v3"},
	"registry":   {"github.com/distribution/distribution/v3/registry/handlers", "github.com/google/go-containerregistry"},
	"api":        {"github.com/distribution/distribution/v3/registry/handlers", "github.com/google/go-containerregistry"},
	// Test clients never ship.
	"cmd/waveproxy": {"github.com/google/go-containerregistry", "testing", "github.com/distribution/distribution/v3/registry/handlers"},
}

// onlyDirect packages may be imported by the named packages of ours alone.
var onlyDirect = map[string][]string{
	"github.com/distribution/distribution/v3/registry/api/errcode": {"front"},
	"github.com/distribution/distribution/v3/registry/handlers":    {"integration/upstream"},
	"oras.land/oras-go/v2/registry/remote/auth":                    {"upstream", "cmd/waveproxy/demo"},
	"oras.land/oras-go/v2/registry/remote/credentials":             {"auth"},
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func TestImports(t *testing.T) {
	packages := listPackages(t)
	for name, p := range packages {
		own, ours := strings.CutPrefix(name, module)
		if !ours {
			continue
		}
		may, known := allowed[own]
		if !known {
			t.Errorf("%s is a new package: say in this test what it may import", own)
		}
		for reached, chain := range reach(packages, p) {
			if other, ours := strings.CutPrefix(reached, module); ours && !slices.Contains(may, other) && !slices.Contains(anywhere, other) {
				t.Errorf("%s must not import %s: %s", own, other, strings.Join(chain, " -> "))
			}
			if other, ours := strings.CutPrefix(reached, module); ours {
				checkOurs(t, own, other, chain)
			}
			for _, bad := range forbidden[own] {
				if reached == bad || strings.HasPrefix(reached, bad+"/") {
					t.Errorf("%s must not reach %s: %s", own, bad, strings.Join(chain, " -> "))
				}
			}
		}
		for _, direct := range p.Imports {
			if only, ok := onlyDirect[direct]; ok && !slices.Contains(only, own) {
				t.Errorf("%s imports %s, which is for %v", own, direct, only)
			}
		}
	}
}

// checkOurs reports an arrow between two packages of ours that never, onlyFor or
// apart forbids.
func checkOurs(t *testing.T, from, to string, chain []string) {
	t.Helper()
	if slices.Contains(never[from], to) {
		t.Errorf("%s must never reach %s: %s", from, to, strings.Join(chain, " -> "))
	}
	if only, ok := onlyFor[to]; ok && !slices.Contains(only, from) {
		t.Errorf("%s reaches %s, which is for %v: %s", from, to, only, strings.Join(chain, " -> "))
	}
	for _, folder := range apart {
		if within(folder, from) != within(folder, to) {
			t.Errorf("%s stands apart, but %s reaches %s: %s", folder, from, to, strings.Join(chain, " -> "))
		}
	}
}

// within reports whether the package stands in the folder.
func within(folder, own string) bool {
	return own == folder || strings.HasPrefix(own, folder+"/")
}

// reach returns every package p depends on, with the chain that leads there.
func reach(packages map[string]goPackage, p goPackage) map[string][]string {
	chains := map[string][]string{}
	queue := [][]string{{p.ImportPath}}
	for len(queue) > 0 {
		chain := queue[0]
		queue = queue[1:]
		for _, next := range packages[chain[len(chain)-1]].Imports {
			if _, seen := chains[next]; !seen {
				chains[next] = append(slices.Clone(chain), next)
				queue = append(queue, chains[next])
			}
		}
	}
	return chains
}

func listPackages(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Imports", module+"...")
	cmd.Dir = root
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	packages := map[string]goPackage{}
	dec := json.NewDecoder(out)
	for {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		packages[p.ImportPath] = p
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if len(packages) < 100 {
		t.Fatalf("go list knows only %d packages", len(packages))
	}
	return packages
}
