package augment

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// engine is a container engine for one platform.
type engine struct {
	ocispec.Platform           // as asked for
	usual            machine   // its own
	os               string    // normalised
	runs             []machine // what it runs, best first
}

// enginesFor returns an engine for each of the platforms.
func enginesFor(platforms []ocispec.Platform) []engine {
	engines := make([]engine, len(platforms))
	for i, p := range platforms {
		n := normalize(p)
		engines[i] = engine{p, machine{n.Architecture, n.Variant}, n.OS, runnable(n)}
	}
	return engines
}

// rank returns the place that an image for have takes among the images that the engine
// takes, 0 for the best, and -1 for an image that it does not take. The order is
// containerd's, which Docker shares. An engine without a variant takes every variant of
// its architecture. An operating system or architecture that the image does not declare
// matches any.
func (e engine) rank(have ocispec.Platform) int {
	have = normalize(have)
	if have.OS != "" && have.OS != e.os {
		return -1
	}
	if have.Architecture == "" || e.usual.variant == "" && have.Architecture == e.usual.architecture {
		return 0
	}
	return slices.Index(e.runs, asEngines(have))
}

// takes reports whether the engine takes an image for have.
func (e engine) takes(have ocispec.Platform) bool { return e.rank(have) >= 0 }

// machine is an architecture with its variant, as engines read it.
type machine struct{ architecture, variant string }

// asEngines returns the machine of a normalised platform.
func asEngines(p ocispec.Platform) machine {
	if p.Architecture == "arm" && p.Variant == "" {
		return machine{"arm", "v7"}
	}
	return machine{p.Architecture, p.Variant}
}

// The newest variants that there are. A machine of a newer one, which a request or an
// image can make up, runs the programs of these.
const (
	newestAMD64 = 4
	newestARM   = 8
)

// runnable returns the machines whose programs run on a normalised platform, best first.
func runnable(p ocispec.Platform) []machine {
	m := asEngines(p)
	list := []machine{m}
	version, _ := strconv.Atoi(strings.TrimPrefix(m.variant, "v"))
	switch m.architecture {
	case "amd64":
		for v := min(version-1, newestAMD64); v > 1; v-- {
			list = append(list, machine{"amd64", fmt.Sprintf("v%d", v)})
		}
		if version > 1 {
			list = append(list, machine{"amd64", ""})
		}
		list = append(list, machine{"386", ""})
	case "arm":
		for v := min(version-1, newestARM); v >= 5; v-- {
			list = append(list, machine{"arm", fmt.Sprintf("v%d", v)})
		}
	case "arm64":
		list = append(list[:0], arm64(cmp.Or(m.variant, "v8"))...)
		list = append(list, runnable(ocispec.Platform{Architecture: "arm", Variant: "v8"})...)
	}
	return list
}

// arm64 returns a variant of arm64 and the older ones. Every v9 includes the v8 of five
// minor versions later, of which there are nine.
func arm64(variant string) []machine {
	var major, minor int
	if n, _ := fmt.Sscanf(variant, "v%d.%d", &major, &minor); n == 0 || major < 8 || major > 9 || minor < 0 || minor > 9 {
		return []machine{{"arm64", variant}}
	}
	var list []machine
	for ; major >= 8; major-- {
		for m := minor; m >= 0; m-- {
			list = append(list, asEngines(normalize(ocispec.Platform{Architecture: "arm64", Variant: fmt.Sprintf("v%d.%d", major, m)})))
		}
		minor = min(minor+5, 9)
	}
	return list
}

// declares reports whether an index entry says for which platform it is. Some tools
// write an empty object.
func declares(p *ocispec.Platform) bool { return p != nil && (p.OS != "" || p.Architecture != "") }

// choose returns, from the entries of an index alone, which manifests to read: those
// that an engine would choose for one of the wanted platforms, and those that do not say
// for which platform they are. BuildKit's attestations are left out: they describe the
// base image and are not true of the augmented one. plain are the entries that may pass as
// they are.
func (w *walk) choose(entries []part) (chosen, plain []bool) {
	fits, best := make([]bool, len(entries)), make([]int, len(w.engines))
	ranks := make([]int, len(entries)*len(w.engines)) // by entry and engine
	plain = make([]bool, len(entries))
	for i := range best {
		best[i] = -1
	}
	for i, e := range entries {
		if fits[i] = mayBeImage(e); !fits[i] || e.Platform == nil {
			continue
		}
		fits[i] = w.notePlatform(*e.Platform)
		plain[i] = !fits[i] && w.Recipe.Plain
		for k, engine := range w.engines {
			r := engine.rank(*e.Platform)
			ranks[i*len(w.engines)+k] = r
			if r >= 0 && (best[k] < 0 || r < best[k]) {
				best[k] = r
			}
		}
	}
	for i, e := range entries {
		if !fits[i] || e.Platform == nil || len(w.engines) == 0 {
			continue
		}
		fits[i] = false
		for k := range w.engines {
			fits[i] = fits[i] || best[k] >= 0 && ranks[i*len(w.engines)+k] == best[k]
		}
	}
	return fits, plain
}

// decide returns the platform of an image in an index. What the index says decides,
// because engines go by it. Its config has what the index does not say.
func (w *walk) decide(manifest fmt.Stringer, declared, config ocispec.Platform) ocispec.Platform {
	said, found := normalize(declared), normalize(config)
	if said.OS != "" && found.OS != "" && said.OS != found.OS || said.Architecture != "" && found.Architecture != "" && said.Architecture != found.Architecture {
		w.mu.Lock()
		w.image.Remarks = append(w.image.Remarks, fmt.Sprintf("the index says that %s is for %s, its config says %s: engines go by the index",
			manifest, FormatPlatform(declared), FormatPlatform(config)))
		w.mu.Unlock()
	}
	if declared.Architecture == "" {
		declared.Architecture, declared.Variant = config.Architecture, config.Variant
	}
	declared.OS = cmp.Or(declared.OS, config.OS)
	return declared
}

// configFacts are what a config says of an image.
type configFacts struct {
	ocispec.Platform
	RootFS json.RawMessage `json:"rootfs"`
}

func readConfig(ctx context.Context, config Object) (facts configFacts, err error) {
	return facts, config.Decode(ctx, &facts)
}

// candidate is a platform of the base image.
type candidate struct {
	ocispec.Platform
	name string // as FormatPlatform writes it
	fits bool   // the recipe's layers
}

// checkPlatforms returns an error if a wanted platform is missing or if no image was
// augmented.
func (w *walk) checkPlatforms(augmented bool) error {
	for _, want := range w.engines {
		if slices.ContainsFunc(w.made, want.takes) {
			continue
		}
		for _, a := range w.image.Absent {
			if a.Platform != nil && want.takes(*a.Platform) {
				return Errorf("%s has no image for platform %s: its index names %s, which the registry does not have (404); it has %s",
					w.Name, FormatPlatform(want.Platform), a.Digest, w.list())
			}
		}
		if !slices.ContainsFunc(w.have, func(c candidate) bool { return want.takes(c.Platform) }) {
			return Errorf("%s has no image for platform %s; it has %s", w.Name, FormatPlatform(want.Platform), w.list())
		}
		return notFor("the recipe has no layer for platform %s of %s; it has layers for %s", FormatPlatform(want.Platform), w.Name, w.bound())
	}
	switch {
	case augmented:
		return nil
	case w.absent != nil:
		return fmt.Errorf("%s: the registry does not have the manifests or configs that its index names: %w", w.Name, w.absent)
	case len(w.have) == 0:
		return notImage("%s is not a container image: its index has none", w.Name)
	}
	return notFor("none of the platforms of %s (%s) fits the recipe's layers (%s)", w.Name, w.list(), w.bound())
}

// list returns the platforms of the base image for a message.
func (w *walk) list() string {
	var have []string
	for _, c := range w.have {
		have = append(have, c.name)
	}
	slices.Sort(have)
	return cmp.Or(strings.Join(slices.Compact(have), ", "), "none")
}

// bound lists the platforms that layers of the recipe are for, as a message has them.
func (w *walk) bound() string {
	var names []string
	for _, l := range w.Recipe.Layers {
		names = append(names, cmp.Or(l.Platform, "any but windows"))
	}
	slices.Sort(names)
	return strings.Join(slices.Compact(names), ", ")
}

// notePlatform remembers a platform of the base image and reports whether the
// recipe's layers fit it.
func (w *walk) notePlatform(p ocispec.Platform) bool {
	c := candidate{p, FormatPlatform(p), w.fits(p)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.have = append(w.have, c)
	return c.fits
}

// noteMade remembers the platform of an image that was augmented.
func (w *walk) noteMade(p ocispec.Platform) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.made = append(w.made, p)
}

// retractPlatform forgets the platform that an index entry declared, because its
// manifest turned out to be no image, or absent.
func (w *walk) retractPlatform(declared *ocispec.Platform) {
	if declared == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	name := FormatPlatform(*declared)
	if i := slices.IndexFunc(w.have, func(c candidate) bool { return c.name == name }); i >= 0 {
		w.have = slices.Delete(w.have, i, i+1)
	}
}
