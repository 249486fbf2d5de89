package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/containerconfig"
)

// Recipe is what is added to an image, and to which. Paths are relative to the
// directory that the server is started in. URLs are at public addresses, or at
// hosts that registries lists.
type Recipe struct {
	// ContainerConfigURL is the URL of a container config, or a list of them: JSON
	// that says what to add, as Fusion is published. {arch} in it stands for amd64
	// and arm64, each of which gets the layers of its own document only. "file:"
	// and a path is a file, in which "file:" and paths relative to it can stand for
	// layers, as "waveproxy layer import" writes it. What was read from a URL is
	// kept, and used when the URL cannot be read at a later start. Default: none.
	ContainerConfigURL oneOrMore `yaml:"container_config_url"`
	// Layers are further layers, each above the one before. Default: none.
	Layers []RecipeLayer `yaml:"layers"`
	// Env are KEY=VALUE entries, after those of the container configs. Default:
	// none.
	Env []string `yaml:"env"`
	// Entrypoint, Cmd and WorkingDir replace those of the container configs, and
	// all of them those of the image. Default: what the image has.
	Entrypoint []string `yaml:"entrypoint"`
	Cmd        []string `yaml:"cmd"`
	WorkingDir string   `yaml:"working_dir"`
	// Images are patterns of the images that it may be used on, as in upstreams.
	// Default: any that upstreams allows.
	Images []string `yaml:"images"`
	// Credentials are names of logins, as api.identities has them, that everybody
	// uses who can reach this server. Default: none; images are pulled anonymously.
	Credentials []string `yaml:"credentials"`
}

// RecipeLayer is a directory, an archive or a URL: exactly one of path and url is
// set.
type RecipeLayer struct {
	// Path is a directory, which is packed, or a tar archive, compressed or not.
	Path string `yaml:"path"`
	// Target is where the files of a directory stand in the image. Default: /.
	Target string `yaml:"target"`
	// URL is where an archive is fetched from, once.
	URL location `yaml:"url"`
	// Digest is that of the archive at URL, sha256:…, which needs one: what is at a
	// URL can change.
	Digest string `yaml:"digest"`
	// Platform is the one that the layer is for: linux/amd64. Default: any.
	Platform string `yaml:"platform"`
}

// recipeName is what a recipe can be called: one component of an image name,
// shorter than a token.
var recipeName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9]|[._-][a-z0-9]){0,31}$`)

const (
	recipeNames   = "want at most 32 of a-z and 0-9, with . _ or - between them"
	maxRecipeName = 32
)

func isRecipeName(name string) bool {
	return len(name) <= maxRecipeName && recipeName.MatchString(name)
}

func (c *Config) validateRecipes(p *problems) {
	for _, name := range slices.Sorted(maps.Keys(c.Recipes)) {
		if !isRecipeName(name) {
			p.add("recipes", name, recipeNames)
			continue
		}
		c.Recipes[name].validate("recipes."+name, c, p)
	}
}

func (r Recipe) validate(key string, c *Config, p *problems) {
	if len(r.ContainerConfigURL)+len(r.Layers)+len(r.Env)+len(r.Entrypoint)+len(r.Cmd)+len(r.WorkingDir) == 0 {
		p.add(key, "", "adds nothing: want container_config_url, layers, env, entrypoint, cmd or working_dir")
	}
	for _, l := range r.ContainerConfigURL {
		for _, document := range containerconfig.Expand([]string{string(l)}, containerconfig.Architectures) {
			if path, ok := document.Path(); ok && path != "" {
				p.readable(key+".container_config_url", path)
			} else if !isFetchable(document.Name) {
				p.add(key+".container_config_url", l, "want http:// or https:// and a host, or file: and a path")
				break
			}
		}
	}
	for i, l := range r.Layers {
		l.validate(fmt.Sprintf("%s.layers[%d]", key, i), p)
	}
	// One by one, for the key.
	for i, e := range r.Env {
		if err := (augment.Recipe{Env: []string{e}}).Validate(); err != nil {
			name, _, _ := strings.Cut(e, "=") // the value may be a secret
			p.add(fmt.Sprintf("%s.env[%d]", key, i), name, "want KEY=VALUE")
		}
	}
	if err := (augment.Recipe{Entrypoint: r.Entrypoint, Cmd: r.Cmd, WorkingDir: r.WorkingDir}).Validate(); err != nil {
		p.add(key, "", err.Error())
	}
	p.patterns(key+".images", r.Images)
	c.knows(key+".credentials", r.Credentials, p)
}

func (l RecipeLayer) validate(key string, p *problems) {
	switch {
	case (l.Path == "") == (l.URL == ""):
		p.add(key, l.Path, "give either path or url")
	case l.URL != "":
		if !isFetchable(string(l.URL)) {
			p.add(key+".url", l.URL, "want http:// or https:// and a host, without user")
		}
		if d := digest.Digest(l.Digest); d.Validate() != nil || d.Algorithm() != digest.SHA256 {
			p.add(key+".digest", l.Digest, "want sha256: and 64 hexadecimal digits, of the archive at url")
		}
		if l.Target != "" {
			p.add(key+".target", l.Target, "is for a directory: an archive says itself where its files go")
		}
	default:
		l.validatePath(key, p)
	}
	if l.Platform != "" {
		if _, err := augment.ParsePlatform(l.Platform); err != nil {
			p.add(key+".platform", l.Platform, err.Error())
		}
	}
}

func (l RecipeLayer) validatePath(key string, p *problems) {
	p.readable(key+".path", l.Path)
	if l.Digest != "" {
		p.add(key+".digest", l.Digest, "is for a url")
	}
	if l.Target == "" {
		return
	}
	if info, err := os.Stat(l.Path); err == nil && !info.IsDir() {
		p.add(key+".target", l.Target, "is for a directory: an archive says itself where its files go")
	}
	if !path.IsAbs(l.Target) || slices.Contains(strings.Split(l.Target, "/"), "..") {
		p.add(key+".target", l.Target, "want an absolute path")
	}
}

func isFetchable(text string) bool {
	u, err := url.Parse(text)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil
}

// validateAliases makes sure that a name under a recipe means one registry.
func (c *Config) validateAliases(p *problems) {
	taken := map[string]string{}
	for name := range c.Registries {
		host, _, _ := strings.Cut(name, "/")
		taken[host] = "is the name of another registry"
	}
	for _, hub := range []string{"docker.io", "index.docker.io", "registry-1.docker.io"} {
		taken[hub] = "is a name of Docker Hub"
	}
	for _, name := range slices.Sorted(maps.Keys(c.Registries)) {
		alias, key := c.Registries[name].Alias, "registries."+withoutUser(name)+".alias"
		switch {
		case alias == "":
			continue
		case !isRegistryHost(alias) || strings.Contains(alias, ":") || alias != strings.ToLower(alias):
			p.add(key, alias, "want a host as image names have it, without a port: registry.local")
		case taken[alias] != "":
			p.add(key, alias, taken[alias])
		}
		taken[alias] = "is the alias of another registry, too"
	}
}
