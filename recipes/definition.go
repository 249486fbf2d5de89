package recipes

import (
	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/auth"
)

// Definition is what the configuration says of a recipe. Errors name its members
// as the configuration does.
type Definition struct {
	// Documents are the URLs, or "file:" and the paths, of container configs. One
	// with {arch} in it is one for each of Architectures, whose layers are for that
	// architecture alone.
	Documents []string
	// Layers are above those of the documents.
	Layers []Layer
	// Env comes after that of the documents, and the others replace theirs.
	Env, Entrypoint, Cmd []string
	WorkingDir           string
	// Images are those that the recipe may be used on; empty: any.
	Images []auth.Pattern
	// Credentials are the names of those that reach the upstream; empty: none.
	Credentials []string
}

// Layer is a directory, an archive or a URL: one of Path and URL is set.
type Layer struct {
	Path   string
	Target string // where a directory's files stand in the image; empty is "/"
	URL    string
	Digest digest.Digest // of what is at URL
	// Platform is the one that the layer is for ("linux/amd64"); empty: any.
	Platform string
}
