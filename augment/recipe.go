package augment

import (
	"fmt"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
)

// Recipe is what to add to a base image. The zero Recipe adds nothing. Its
// JSON form is part of a grant's identity, so member names and order are fixed.
type Recipe struct {
	// Layers are appended above the base image's, in order.
	Layers []Layer `json:"layers,omitempty"`
	// Env holds KEY=VALUE entries. A key the base image has is replaced where it
	// stands, new keys follow in order, and the last of equal keys wins.
	Env []string `json:"env,omitempty"`
	// Entrypoint, Cmd and WorkingDir replace the base image's when not empty.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	// Plain lets an image that the layers do not fit pass as it is, also beside others in
	// an index.
	Plain bool `json:"plain,omitempty"`
}

// Layer names one injected layer: a gzip-compressed tar archive that was
// checked by Inspect when it entered the store.
type Layer struct {
	Digest digest.Digest `json:"digest"` // of the compressed bytes
	Size   int64         `json:"size"`   // of the compressed bytes
	DiffID digest.Digest `json:"diffID"` // of the uncompressed tar
	// Platform limits the layer to one platform ("linux/arm64"). Empty fits all.
	Platform string `json:"platform,omitempty"`
	// Roots lists the UsrMergeRoots that the archive has entries under.
	Roots []string `json:"roots,omitempty"`
	// Location is the URL the layer was fetched from, for people to read;
	// empty for layers that came inline.
	Location string `json:"location,omitempty"`
	// Via lists where redirects from Location led. An identity that may not read from
	// there may not have the layer.
	Via []string `json:"via,omitempty"`
}

// IsZero reports whether the recipe changes nothing.
func (r Recipe) IsZero() bool {
	return len(r.Layers) == 0 && len(r.Env) == 0 && len(r.Entrypoint) == 0 &&
		len(r.Cmd) == 0 && r.WorkingDir == ""
}

// Equal reports whether two recipes add the same. It is cheap enough to be called
// on every pull.
func (r Recipe) Equal(other Recipe) bool {
	return r.WorkingDir == other.WorkingDir && r.Plain == other.Plain && slices.EqualFunc(r.Layers, other.Layers, Layer.equal) &&
		slices.Equal(r.Env, other.Env) && slices.Equal(r.Entrypoint, other.Entrypoint) && slices.Equal(r.Cmd, other.Cmd)
}

func (l Layer) equal(other Layer) bool {
	return l.Digest == other.Digest && l.Size == other.Size && l.DiffID == other.DiffID &&
		l.Platform == other.Platform && l.Location == other.Location && slices.Equal(l.Roots, other.Roots) &&
		slices.Equal(l.Via, other.Via)
}

// Validate returns an error for the first value that no image config can hold.
func (r Recipe) Validate() error {
	for _, e := range r.Env {
		if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
			return fmt.Errorf("env entry %q: want KEY=VALUE", e)
		}
	}
	fields := slices.Concat(r.Env, r.Entrypoint, r.Cmd, []string{r.WorkingDir})
	if i := slices.IndexFunc(fields, func(s string) bool { return strings.ContainsRune(s, 0) }); i >= 0 {
		return fmt.Errorf("%q contains a NUL character", fields[i])
	}
	if r.WorkingDir != "" && !strings.HasPrefix(r.WorkingDir, "/") {
		return fmt.Errorf("working directory %q is not an absolute path", r.WorkingDir)
	}
	return nil
}
