package config

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/internal/truststore"
	"github.com/waveproxy/waveproxy/internal/yamlstrict"
)

// Recipe is what is added to images, and to which images. Paths are relative to the
// directory that the server is started in. URLs are at public addresses, or at
// hosts that registries lists.
type Recipe struct {
	// ContainerConfigURL is the URL of a container config, or a list of them: JSON
	// that says what to add, as Fusion is published. {arch} in it stands for amd64
	// and arm64, each of which gets the layers of its own document only. "file:"
	// and a path is a file, in which "file:" and paths relative to it can stand for
	// layers, as "waveproxy layer import" writes it. A document from a URL is kept,
	// and used when the URL cannot be read at a later start. Default: none.
	ContainerConfigURL Locations `yaml:"container_config_url"`
	// Layers are further layers, each above the previous one. Default: none.
	Layers []RecipeLayer `yaml:"layers"`
	// Env are KEY=VALUE entries, after those of the container configs. Default:
	// none.
	Env []Variable `yaml:"env"`
	// ExtendEnv are KEY=VALUE entries in which ${NAME} stands for the value that the
	// image has, or the one in env, and $$ for a dollar. A variable that the image lacks is
	// empty, but PATH is what engines use. Default: none.
	ExtendEnv []Variable `yaml:"extend_env"`
	// Entrypoint replaces the one of the container configs, which replaces the
	// image's. Default: unchanged.
	Entrypoint []string `yaml:"entrypoint"`
	// Cmd replaces the command in the same way. Default: unchanged.
	Cmd []string `yaml:"cmd"`
	// WorkingDir replaces the working directory in the same way. Default: unchanged.
	WorkingDir string `yaml:"working_dir"`
	// Certificates are files with certificates of authorities in PEM, which programs in the
	// image are made to trust: they are added to the bundles and the Java key stores that
	// the image has. Default: none.
	Certificates []string `yaml:"certificates"`
	// Images are patterns of the images that the recipe may be used on, as in
	// upstreams. Default: any that upstreams allows.
	Images []auth.Pattern `yaml:"images"`
	// Credentials are names of logins, as in api.identities. Every client that can
	// reach this server pulls with them. Default: none; images are pulled
	// anonymously.
	Credentials []string `yaml:"credentials"`
	// TagTTL is how long a tag is served without asking the registry whether it has
	// moved: 1s to 24h. Default: 30s.
	TagTTL time.Duration `yaml:"tag_ttl"`
	// Unfit says what becomes of an image that the layers are not for, Windows' among
	// them: refuse, or plain, which serves it as its registry has it. What is no image, a
	// signature, a chart or a model, is always served so. Default: refuse.
	Unfit Unfit `yaml:"unfit"`
}

// RecipeLayer is a directory, an archive or a URL: exactly one of path and url is
// set.
type RecipeLayer struct {
	// Path is a directory, which is packed, or a tar archive, compressed or not.
	Path string `yaml:"path"`
	// Target is where the files of a directory stand in the image. Default: /.
	Target string `yaml:"target"`
	// URL is where an archive is fetched from, once.
	URL Location `yaml:"url"`
	// Digest is the digest of the archive at url, sha256:…, and required with it,
	// because the content of a URL can change.
	Digest Digest `yaml:"digest"`
	// Platform binds the layer to one platform: linux/amd64. Default: any.
	Platform Platform `yaml:"platform"`
	// KeepModes is false if directories that the image has get the mode, owner and
	// extended attributes that the layer gives them. Default: true; they keep their own.
	KeepModes Switch `yaml:"keep_modes"`
}

// recipeName is what a recipe can be called: one component of an image name,
// shorter than a token.
var recipeName = regexp.MustCompile(`^[a-z0-9](?:[a-z0-9]|[._-][a-z0-9]){0,31}$`)

const (
	// RecipeNames says what IsRecipeName wants.
	RecipeNames   = "want at most 32 of a-z and 0-9, with . _ or - between them"
	maxRecipeName = 32
)

// IsRecipeName reports whether a recipe can have the name.
func IsRecipeName(name string) bool {
	return len(name) <= maxRecipeName && recipeName.MatchString(name)
}

func (c *Config) checkRecipes(k checker) {
	for _, name := range slices.Sorted(maps.Keys(c.Recipes)) {
		if !IsRecipeName(name) {
			k.name("recipes", name, RecipeNames)
			continue
		}
		c.Recipes[name].check("recipes."+name, c, k)
	}
}

func (r Recipe) check(key string, c *Config, k checker) {
	if len(r.ContainerConfigURL)+len(r.Layers)+len(r.Env)+len(r.ExtendEnv)+len(r.Certificates)+len(r.Entrypoint)+len(r.Cmd)+len(r.WorkingDir) == 0 {
		k.add(key, "", "adds nothing: want container_config_url, layers, env, extend_env, certificates, entrypoint, cmd or working_dir")
	}
	for _, l := range r.ContainerConfigURL {
		for _, document := range containerconfig.Expand([]string{string(l)}, containerconfig.Architectures) {
			if path, ok := document.Path(); ok && path != "" {
				k.readable(key+".container_config_url", path)
			} else if !isFetchable(document.Name) {
				k.add(key+".container_config_url", l, "want http:// or https:// and a host, or file: and a path")
				break
			}
		}
	}
	for i, l := range r.Layers {
		l.check(fmt.Sprintf("%s.layers[%d]", key, i), k)
	}
	// One by one, for the key.
	for i, e := range r.Env {
		if err := (augment.Recipe{Env: []string{string(e)}}).Validate(); err != nil {
			name, _, given := strings.Cut(string(e), "=")
			if !given {
				name = "***" // the value may be a secret, and stand alone
			}
			k.add(fmt.Sprintf("%s.env[%d]", key, i), name, "want KEY=VALUE")
		}
	}
	r.checkExtendEnv(key, k)
	r.checkCertificates(key, k)
	for _, part := range []struct {
		name  string
		value augment.Recipe
	}{
		{"entrypoint", augment.Recipe{Entrypoint: r.Entrypoint}}, {"cmd", augment.Recipe{Cmd: r.Cmd}}, {"working_dir", augment.Recipe{WorkingDir: r.WorkingDir}},
	} {
		if err := part.value.Validate(); err != nil {
			k.Add(key+"."+part.name, key+"."+part.name, yamlstrict.HideIn(err.Error(), r.WorkingDir))
		}
	}
	if r.TagTTL != 0 && (r.TagTTL < time.Second || r.TagTTL > 24*time.Hour) {
		k.add(key+".tag_ttl", r.TagTTL, "want a duration from 1s to 24h")
	}
	c.known(key+".credentials", r.Credentials, k)
}

// checkExtendEnv checks the entries one by one, for the key, and if each is good,
// together.
func (r Recipe) checkExtendEnv(key string, k checker) {
	var all []string
	good := true
	for i, e := range r.ExtendEnv {
		all = append(all, string(e))
		if err := (augment.Recipe{ExtendEnv: all[i:]}).Validate(); err != nil {
			at := fmt.Sprintf("%s.extend_env[%d]", key, i)
			k.Add(at, at, strings.TrimPrefix(err.Error(), "extendEnv[0]: "))
			good = false
		}
	}
	if err := (augment.Recipe{ExtendEnv: all}).Validate(); err != nil && good {
		k.Add(key+".extend_env", key+".extend_env", strings.ReplaceAll(err.Error(), "extendEnv", "extend_env"))
	}
}

func (r Recipe) checkCertificates(key string, k checker) {
	for i, path := range r.Certificates {
		at := fmt.Sprintf("%s.certificates[%d]", key, i)
		if _, err := truststore.ReadFile(path, time.Now()); err != nil {
			k.add(at, shownPath(path), cause(err))
		}
	}
}

func (l RecipeLayer) check(key string, k checker) {
	switch {
	case (l.Path == "") == (l.URL == ""):
		k.add(key, l.Path, "give either path or url")
	case l.URL != "":
		if !isFetchable(string(l.URL)) {
			k.add(key+".url", l.URL, "want http:// or https:// and a host, without user")
		}
		if l.Digest == "" {
			k.add(key+".digest", l.Digest, wantDigest)
		}
		if l.Target != "" {
			k.add(key+".target", l.Target, "is for a directory: an archive says itself where its files go")
		}
	default:
		l.checkPath(key, k)
	}
}

func (l RecipeLayer) checkPath(key string, k checker) {
	k.readable(key+".path", l.Path)
	if l.Digest != "" {
		k.add(key+".digest", l.Digest, "is for a url")
	}
	if l.Target == "" {
		return
	}
	if info, err := os.Stat(l.Path); err == nil && !info.IsDir() {
		k.add(key+".target", l.Target, "is for a directory: an archive says itself where its files go")
	}
	if !path.IsAbs(l.Target) || slices.Contains(strings.Split(l.Target, "/"), "..") {
		k.add(key+".target", l.Target, "want an absolute path")
	}
}

func isFetchable(text string) bool {
	u, err := url.Parse(text)
	return err == nil && isHTTP(u) && u.Host != "" && u.User == nil
}
