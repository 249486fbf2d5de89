package recipes

import (
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
)

// Definition is a recipe as the configuration has it. Errors name its members as
// the configuration does.
type Definition struct {
	// Documents are the names of container configs: URLs, or "file:" and paths. A name
	// with {arch} stands for one document for each of containerconfig.Architectures,
	// whose layers are for that architecture alone.
	Documents []string
	// Layers are above the layers of the documents.
	Layers []Layer
	// Env comes after the environment of the documents; the others replace the
	// documents' values.
	Env, Entrypoint, Cmd []string
	WorkingDir           string
	// ExtendEnv are variables with references to those of the image and Env.
	ExtendEnv []string
	// Certificates are the paths of files in PEM.
	Certificates []string
	// Images are the images that the recipe may be used on; empty: any.
	Images []auth.Pattern
	// Credentials are the names of the credentials that reach the upstream; empty:
	// none.
	Credentials []string
	// TagTTL is how long a tag is served without asking the upstream again. 0 is the
	// registry's default.
	TagTTL time.Duration
	// Plain serves an image that the layers are not for as it is.
	Plain bool
}

// Layer is a directory, an archive or a URL: one of Path and URL is set.
type Layer struct {
	Path   string
	Target string // where a directory's files stand in the image; empty is "/"
	URL    string
	Digest digest.Digest // of the archive at URL
	// Platform is the only platform that the layer is for ("linux/amd64"); empty: any.
	Platform string
	// OwnModes says that directories which an image has get the attributes of the layer.
	OwnModes bool
}
