package containerconfig

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/upstream"
)

// Config is a recipe on the wire.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	// ExtendEnv is like Env, with ${NAME} for the image's value and $$ for a dollar. Wave
	// has no such member, and dollars in Env are literal.
	ExtendEnv  []string `json:"extendEnv,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	// Certificates are those of authorities that the image is made to trust, in PEM. Wave
	// has no such member.
	Certificates []string `json:"certificates,omitempty"`
	Layers       []Layer  `json:"layers,omitempty"`
}

// Layer is a layer on the wire. Location holds or names the archive: "data:" and
// base64, "gzip:" and base64 of its zlib compression, an http or https URL, or
// docker://<registry>/v2/<repository>/blobs/<digest>. A document in a file may
// also name a file. Digests and size are checked when given.
type Layer struct {
	Location   string `json:"location"`
	GzipDigest string `json:"gzipDigest,omitempty"`
	GzipSize   Size   `json:"gzipSize,omitempty"`
	TarDigest  string `json:"tarDigest,omitempty"`
	// SkipHashing is a setting of the client that sends it, and changes nothing here.
	SkipHashing bool `json:"skipHashing,omitempty"`
}

// omitted stands for the content of an inline layer. Wave writes the same.
const omitted = "data:DATA+OMITTED"

// Of returns the wire form of a recipe, without the content of any layer. It is
// nil for a recipe that adds nothing.
func Of(r augment.Recipe) *Config {
	if r.IsZero() {
		return nil
	}
	r = r.Flat()
	c := &Config{Entrypoint: r.Entrypoint, Cmd: r.Cmd, Env: r.Env, ExtendEnv: r.ExtendEnv, WorkingDir: r.WorkingDir, Certificates: r.Certificates}
	for _, l := range r.Layers {
		c.Layers = append(c.Layers, Describe(l, cmp.Or(l.Location, omitted)))
	}
	return c
}

// Describe returns the wire form of a layer that is at location.
func Describe(l augment.Layer, location string) Layer {
	return Layer{Location: location, GzipDigest: l.Digest.String(), GzipSize: Size(l.Size), TarDigest: l.DiffID.String()}
}

// Recipe returns the recipe without its layers, which a Taker takes in.
func (c Config) Recipe() augment.Recipe {
	return augment.Recipe{Entrypoint: c.Entrypoint, Cmd: c.Cmd, Env: c.Env, ExtendEnv: c.ExtendEnv, WorkingDir: c.WorkingDir, Certificates: c.Certificates}
}

// TextSize returns the bytes of environment, certificates, entrypoint, command and directory,
// which are in every grant. Each entry of a list counts one byte more.
func (c Config) TextSize() int {
	text := len(c.WorkingDir)
	for _, s := range slices.Concat(c.Env, c.ExtendEnv, c.Certificates, c.Entrypoint, c.Cmd) {
		text += len(s) + 1
	}
	return text
}

// Check refuses a layer whose location or digests cannot be right. Errors name
// its members under key. It reads nothing that the location names.
func (l Layer) Check(key string) error {
	if _, err := l.Expected(key); err != nil {
		return err
	}
	return l.checkLocation(key + ".location")
}

// maxURL bounds the URL of a layer in bytes, because a grant keeps it and clients of
// registries and web servers take no longer one.
const maxURL = 8 << 10

func (l Layer) checkLocation(key string) error {
	scheme := schemeOf(l.Location)
	if !slices.Contains(schemes, scheme) {
		return refuseScheme(key, l.Location)
	}
	if scheme != "data" && scheme != "gzip" && len(l.Location) > maxURL {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "%s %.40q…: a URL of %d bytes, and at most %d are taken", key, l.Location, len(l.Location), maxURL)
	}
	return nil
}

// Written returns a location as people have written it, without secrets. ok is false if
// the location holds the layer itself.
func (l Layer) Written() (location string, ok bool) {
	if scheme := schemeOf(l.Location); scheme == "data" || scheme == "gzip" {
		return "", false
	}
	return upstream.RedactURL(l.Location), true
}

// IsRemote reports whether the location is an http or https URL.
func (l Layer) IsRemote() bool {
	scheme := schemeOf(l.Location)
	return scheme == "http" || scheme == "https"
}

// maxDigest bounds a digest in bytes, before expressions are matched with it.
const maxDigest = 100

// Expected returns what the archive of the layer must turn out to be. Errors name
// the layer's members under key.
func (l Layer) Expected(key string) (assemble.Expected, error) {
	want := assemble.Expected{Digest: digest.Digest(l.GzipDigest), Size: int64(l.GzipSize), DiffID: digest.Digest(l.TarDigest)}
	for _, d := range []struct {
		member string
		digest digest.Digest
	}{{"gzipDigest", want.Digest}, {"tarDigest", want.DiffID}} {
		if d.digest != "" && (len(d.digest) > maxDigest || d.digest.Validate() != nil || d.digest.Algorithm() != digest.SHA256) {
			return want, front.Refuse(http.StatusBadRequest, front.Unsupported, "%s.%s %.100q: want sha256: and 64 hexadecimal digits", key, d.member, d.digest)
		}
	}
	return want, nil
}

// Size is a number of bytes, which some clients send as a string.
type Size int64

// UnmarshalJSON reads a number, a string of one, null or "".
func (s *Size) UnmarshalJSON(data []byte) error {
	v, err := ParseInteger(data)
	if err != nil || v < 0 {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "gzipSize %.40s: want a number of bytes", data)
	}
	*s = Size(v)
	return nil
}

// maxDigits bounds an integer in bytes.
const maxDigits = 40

// ParseInteger reads an integer in JSON that may stand in a string. Null and ""
// are 0.
func ParseInteger(data []byte) (int64, error) {
	text := strings.Trim(string(data), `"`)
	if text == "null" || text == "" {
		return 0, nil
	}
	v, err := int64(0), error(strconv.ErrSyntax)
	if len(text) <= maxDigits {
		v, err = strconv.ParseInt(text, 10, 64)
	}
	if err != nil {
		return 0, fmt.Errorf("%.40q is not an integer", text)
	}
	return v, nil
}
