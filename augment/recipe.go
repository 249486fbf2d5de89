package augment

import (
	"errors"
	"fmt"
	"regexp"
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
	// ExtendEnv holds KEY=VALUE entries in which ${NAME} stands for the value that the
	// image has after Env, and $$ for a dollar. They replace and follow as those of Env.
	ExtendEnv []string `json:"extendEnv,omitempty"`
	// Certificates are those of authorities, in PEM, which programs in the image are made
	// to trust.
	Certificates []string `json:"certificates,omitempty"`
	// Entrypoint, Cmd and WorkingDir replace the base image's when not empty.
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	// Plain lets an image that the layers do not fit pass as it is, also beside others in
	// an index.
	Plain bool `json:"plain,omitempty"`
	// Below is applied first, as if its result were the base image. Its layers are in
	// Layers already, its certificates in Certificates.
	Below *Recipe `json:"below,omitempty"`
}

// maxBelow bounds how many recipes stand below one another.
const maxBelow = 16

// Upon returns the recipe that does what below and then r do, on below's base
// image. A layer that both have is added once, where r has it. A recipe upon
// itself is itself.
func (r Recipe) Upon(below Recipe) Recipe {
	top := below
	top.Below, top.Layers = nil, below.Layers[max(0, len(below.Layers)-len(r.Layers)):]
	if len(union(below.Certificates, r.Certificates)) == len(below.Certificates) {
		top.Certificates = r.Certificates
	}
	if r.IsZero() || r.Equal(below) || r.Equal(top) {
		return below
	}
	own := r.Layers
	r.Layers = nil
	for _, l := range below.Layers {
		if !slices.ContainsFunc(own, l.equal) {
			r.Layers = append(r.Layers, l)
		}
	}
	r.Layers = append(r.Layers, own...)
	r.Plain = r.Plain || below.Plain
	r.Certificates = union(below.Certificates, r.Certificates)
	below.Layers, below.Certificates, below.Plain = nil, nil, false
	if !below.IsZero() {
		r.Below = &below
	}
	return r
}

// union returns what a has, and then what only b has.
func union(a, b []string) []string {
	all := slices.Clone(a)
	for _, s := range b {
		if !slices.Contains(all, s) {
			all = append(all, s)
		}
	}
	return all
}

// Layer names one injected layer: a gzip-compressed tar archive that was
// checked by Inspect when it entered the store. JSON of older versions has another member,
// roots, which says nothing that is needed any more.
type Layer struct {
	Digest digest.Digest `json:"digest"` // of the compressed bytes
	Size   int64         `json:"size"`   // of the compressed bytes
	DiffID digest.Digest `json:"diffID"` // of the uncompressed tar
	// Platform limits the layer to one platform ("linux/arm64"). Empty fits all.
	Platform string `json:"platform,omitempty"`
	// OwnModes says that directories which the base image has get the mode, owner and
	// extended attributes of the archive. Otherwise they keep their own.
	OwnModes bool `json:"ownModes,omitempty"`
	// Location is the URL the layer was fetched from, for people to read;
	// empty for layers that came inline.
	Location string `json:"location,omitempty"`
	// Via lists where redirects from Location led. An identity that may not read from
	// there may not have the layer.
	Via []string `json:"via,omitempty"`
}

// Flat returns the recipe without others below it, as people read it: a grant that
// is described, provenance. Which entrypoints stood below is lost.
func (r Recipe) Flat() Recipe {
	for b := r.Below; b != nil; b = b.Below {
		r.Env = slices.Concat(b.Env, r.Env)
		r.ExtendEnv = slices.Concat(b.ExtendEnv, r.ExtendEnv)
		if len(r.Entrypoint) == 0 {
			r.Entrypoint = b.Entrypoint
		}
		if len(r.Cmd) == 0 {
			r.Cmd = b.Cmd
		}
		if r.WorkingDir == "" {
			r.WorkingDir = b.WorkingDir
		}
	}
	r.Below = nil
	return r
}

// IsZero reports whether the recipe changes nothing.
func (r Recipe) IsZero() bool {
	return len(r.Layers) == 0 && len(r.Env) == 0 && len(r.ExtendEnv) == 0 && len(r.Certificates) == 0 && len(r.Entrypoint) == 0 &&
		len(r.Cmd) == 0 && r.WorkingDir == "" && r.Below == nil
}

// Equal reports whether two recipes add the same. It is cheap enough to be called
// on every pull.
func (r Recipe) Equal(other Recipe) bool {
	return r.WorkingDir == other.WorkingDir && r.Plain == other.Plain && slices.EqualFunc(r.Layers, other.Layers, Layer.equal) &&
		slices.Equal(r.Env, other.Env) && slices.Equal(r.ExtendEnv, other.ExtendEnv) &&
		slices.Equal(r.Certificates, other.Certificates) && slices.Equal(r.Entrypoint, other.Entrypoint) && slices.Equal(r.Cmd, other.Cmd) &&
		(r.Below == nil) == (other.Below == nil) && (r.Below == nil || r.Below.Equal(*other.Below))
}

func (l Layer) equal(other Layer) bool {
	return l.Digest == other.Digest && l.Size == other.Size && l.DiffID == other.DiffID &&
		l.Platform == other.Platform && l.Location == other.Location && l.OwnModes == other.OwnModes &&
		slices.Equal(l.Via, other.Via)
}

// Validate returns an error for the first value that no image config can hold. It names
// the place and not the value, which may be a secret.
func (r Recipe) Validate() error {
	for n, b := 0, r.Below; b != nil; n, b = n+1, b.Below {
		if n == maxBelow {
			return fmt.Errorf("more than %d recipes stand below one another: name the base image and give all that it needs at once", maxBelow)
		}
		own := *b
		own.Below = nil
		if err := own.Validate(); err != nil {
			return err
		}
	}
	for i, e := range r.Env {
		if key, _, ok := strings.Cut(e, "="); !ok || key == "" {
			return fmt.Errorf("env[%d]: want KEY=VALUE", i)
		}
	}
	if err := checkExtended(r.ExtendEnv); err != nil {
		return err
	}
	if len(r.Certificates) > 0 {
		if _, err := parseCertificates(r.Certificates); err != nil {
			return err
		}
	}
	for _, list := range []struct {
		name   string
		values []string
	}{{"env", r.Env}, {"extendEnv", r.ExtendEnv}, {"entrypoint", r.Entrypoint}, {"cmd", r.Cmd}} {
		if i := slices.IndexFunc(list.values, func(s string) bool { return strings.ContainsRune(s, 0) }); i >= 0 {
			return fmt.Errorf("%s[%d] contains a NUL character", list.name, i)
		}
	}
	if strings.ContainsRune(r.WorkingDir, 0) {
		return errors.New("the working directory contains a NUL character")
	}
	if r.WorkingDir != "" && !strings.HasPrefix(r.WorkingDir, "/") && !hasDrive.MatchString(r.WorkingDir) {
		return fmt.Errorf("working directory %q is not an absolute path", r.WorkingDir)
	}
	return nil
}

// hasDrive matches an absolute path of Windows.
var hasDrive = regexp.MustCompile(`^[A-Za-z]:[\\/]`)
