package augment

import (
	"regexp"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

var platformWord = regexp.MustCompile(`^[a-z0-9]+([._-][a-z0-9]+)*$`)

// architectures maps spellings that people and clients use to GOARCH names.
var architectures = map[string]string{
	"x86_64": "amd64", "x86-64": "amd64",
	"aarch64": "arm64", "arm64v8": "arm64",
	"armhf": "arm", "arm32v7": "arm", "arm32v6": "arm", "arm32v5": "arm",
	"i386": "386",
}

// variants maps spellings of an architecture to the variant that they imply.
var variants = map[string]string{"arm32v7": "v7", "arm32v6": "v6", "arm32v5": "v5"}

// ParsePlatform reads [os/]architecture[/variant] in any usual spelling:
// "amd64", "x86_64", "linux/arm64/v8", "arm64v8", "linux/arm/v7". The
// operating system defaults to linux.
func ParsePlatform(s string) (ocispec.Platform, error) {
	if len(s) > maxPlatformText {
		return ocispec.Platform{}, Errorf("platform %.40q…: %d bytes, and at most %d are taken", s, len(s), maxPlatformText)
	}
	parts := strings.Split(strings.ToLower(strings.TrimSpace(s)), "/")
	if len(parts) == 1 || (len(parts) == 2 && isArchitecture(parts[0])) {
		parts = append([]string{"linux"}, parts...)
	}
	if len(parts) > 3 {
		return ocispec.Platform{}, Errorf("platform %q: want [os/]architecture[/variant], for example linux/amd64", s)
	}
	for _, p := range parts {
		if !platformWord.MatchString(p) {
			return ocispec.Platform{}, Errorf("platform %q: want [os/]architecture[/variant], for example linux/amd64", s)
		}
	}
	p := ocispec.Platform{OS: parts[0], Architecture: parts[1]}
	if len(parts) == 3 {
		p.Variant = parts[2]
	}
	return normalize(p), nil
}

// maxPlatforms is more than exist.
const maxPlatforms = 100

// ParsePlatforms reads a comma-separated list. The empty string gives an
// empty list.
func ParsePlatforms(s string) ([]ocispec.Platform, error) {
	var platforms []ocispec.Platform
	for part := range strings.SplitSeq(s, ",") {
		if strings.TrimSpace(part) == "" {
			continue
		}
		p, err := ParsePlatform(part)
		if err != nil {
			return nil, err
		}
		if platforms = append(platforms, p); len(platforms) > maxPlatforms {
			return nil, Errorf("more than %d platforms are asked for", maxPlatforms)
		}
	}
	return platforms, nil
}

// isArchitecture reports whether s names an architecture, which tells "arm/v7"
// from "linux/arm".
func isArchitecture(s string) bool {
	switch s {
	case "amd64", "arm64", "arm", "386", "ppc64le", "s390x", "riscv64", "mips64le", "loong64":
		return true
	}
	return architectures[s] != ""
}

// normalize maps aliases and leaves out the variants that mean "the usual one".
func normalize(p ocispec.Platform) ocispec.Platform {
	if p.Variant == "" {
		p.Variant = variants[p.Architecture]
	}
	if a, ok := architectures[p.Architecture]; ok {
		p.Architecture = a
	}
	if v := p.Variant; v != "" && v[0] >= '0' && v[0] <= '9' {
		p.Variant = "v" + v
	}
	switch (machine{p.Architecture, p.Variant}) {
	case machine{"arm64", "v8"}, machine{"arm64", "v8.0"}, machine{"amd64", "v1"}:
		p.Variant = ""
	case machine{"arm64", "v9.0"}:
		p.Variant = "v9"
	}
	return p
}

// maxPlatformText bounds a platform in bytes, before expressions are matched with it.
const maxPlatformText = 256

// FormatPlatform returns os/architecture[/variant].
func FormatPlatform(p ocispec.Platform) string {
	p = normalize(p)
	s := p.OS + "/" + p.Architecture
	if p.Variant != "" {
		s += "/" + p.Variant
	}
	return s
}

// samePlatform reports whether FormatPlatform writes two platforms in the same way.
func samePlatform(a, b ocispec.Platform) bool {
	a, b = normalize(a), normalize(b)
	return a.OS == b.OS && a.Architecture == b.Architecture && a.Variant == b.Variant
}

// Covers reports whether asking for want includes images made for have. A
// want without a variant includes every variant. An operating system or
// architecture that the image does not declare matches any.
func Covers(want, have ocispec.Platform) bool {
	want, have = normalize(want), normalize(have)
	if have.Architecture == "arm" && have.Variant == "" {
		have.Variant = "v7" // as engines read it
	}
	return (have.OS == "" || want.OS == have.OS) &&
		(have.Architecture == "" || want.Architecture == have.Architecture) &&
		(want.Variant == "" || want.Variant == have.Variant)
}

// bindings has the platforms to which a recipe's layers are bound, as they are written.
type bindings map[string]ocispec.Platform

// bindingsOf reads the platforms of layers: many layers share few platforms. One that
// cannot be read is left out, and fits no image.
func bindingsOf(layers []Layer) bindings {
	read := bindings{}
	for _, l := range layers {
		if _, known := read[l.Platform]; known || l.Platform == "" {
			continue
		}
		if p, err := ParsePlatform(l.Platform); err == nil {
			read[l.Platform] = p
		}
	}
	return read
}

// fits reports whether the recipe's layers fit a platform. Layers bound to a platform are
// alternatives (one Fusion layer per architecture, say). If the recipe has platform-bound
// layers and none matches, the recipe is not meant for this image. Windows images are also
// refused unless every layer is bound to a platform, because their layers have another
// format. It keeps trusted certificates in its registry, where no layer gets at them.
func (w *walk) fits(p ocispec.Platform) bool {
	if len(w.Recipe.Certificates) > 0 && p.OS == "windows" {
		return false
	}
	bound := false
	for i := range w.Recipe.Layers {
		bound = bound || w.Recipe.Layers[i].Platform != ""
		if w.Recipe.Layers[i].Platform == "" && p.OS == "windows" {
			return false
		}
	}
	for _, want := range w.bindings {
		if Covers(want, p) {
			return true
		}
	}
	return !bound
}

// fitting returns the layers for a platform that the recipe fits.
func (w *walk) fitting(p ocispec.Platform) (fit []Layer) {
	covers := make(map[string]bool, len(w.bindings))
	for name, want := range w.bindings {
		covers[name] = Covers(want, p)
	}
	for _, l := range w.Recipe.Layers {
		if l.Platform == "" || covers[l.Platform] {
			fit = append(fit, l)
		}
	}
	return fit
}
