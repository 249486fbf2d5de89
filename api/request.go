package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
)

// SubmitRequest is what clients post to have an image augmented. Members that
// are null, empty and absent mean the same; members not listed are ignored.
type SubmitRequest struct {
	ContainerImage    string                  `json:"containerImage"`
	ContainerConfig   *containerconfig.Config `json:"containerConfig,omitempty"`
	ContainerPlatform string                  `json:"containerPlatform,omitempty"` // comma-separated
	// ContainerIncludes are images whose layers are laid over the image, above the
	// layers of ContainerConfig.
	ContainerIncludes []string `json:"containerIncludes,omitempty"`
	// TTL is how long the image can be pulled, as Go writes durations ("12h").
	// Wave has no such member.
	TTL string `json:"ttl,omitempty"`
	// TowerAccessToken stands for the caller. It is neither checked nor kept.
	TowerAccessToken string `json:"towerAccessToken,omitempty"`

	// The next members ask for builds and copies, which this server does not make.
	ContainerFile string          `json:"containerFile,omitempty"`
	CondaFile     string          `json:"condaFile,omitempty"`
	Packages      json.RawMessage `json:"packages,omitempty"`
	Freeze        bool            `json:"freeze,omitempty"`
	Mirror        bool            `json:"mirror,omitempty"`
	Format        string          `json:"format,omitempty"`
	ScanMode      string          `json:"scanMode,omitempty"`

	// The other members change nothing here. Clients send them all the same.
	TowerRefreshToken string          `json:"towerRefreshToken,omitempty"`
	TowerEndpoint     string          `json:"towerEndpoint,omitempty"`
	TowerWorkspaceID  Number          `json:"towerWorkspaceId,omitempty"`
	WorkflowID        string          `json:"workflowId,omitempty"`
	Timestamp         string          `json:"timestamp,omitempty"` // not always RFC 3339
	Fingerprint       string          `json:"fingerprint,omitempty"`
	DryRun            bool            `json:"dryRun,omitempty"`
	BuildRepository   string          `json:"buildRepository,omitempty"`
	CacheRepository   string          `json:"cacheRepository,omitempty"`
	BuildContext      json.RawMessage `json:"buildContext,omitempty"`
	BuildCompression  json.RawMessage `json:"buildCompression,omitempty"`
	BuildTemplate     string          `json:"buildTemplate,omitempty"`
	NameStrategy      string          `json:"nameStrategy,omitempty"`
	ScanLevels        []string        `json:"scanLevels,omitempty"`
}

func (r *SubmitRequest) platformToken() string { return r.TowerAccessToken }

const (
	maxText   = 256 << 10 // bytes of environment, entrypoint and command: more fits no token's grant
	maxLayers = 1000      // of a request
	maxWord   = 4 << 10   // bytes of an image name, a list of platforms, a user or a password
	maxToken  = 16 << 10  // bytes of a token: those of identity providers list groups
)

// bounded refuses a request with more text or layers than any good request has,
// before any work is done.
func (r *SubmitRequest) bounded() error {
	for _, word := range append([]string{r.ContainerImage, r.ContainerPlatform, r.TTL, r.Timestamp, r.Fingerprint}, r.ContainerIncludes[:min(len(r.ContainerIncludes), maxIncludes)]...) {
		if len(word) > maxWord {
			return front.Refuse(http.StatusBadRequest, front.Unsupported, "%.40q…: a name of %d bytes, and at most %d are taken", word, len(word), maxWord)
		}
	}
	c := r.ContainerConfig
	if c == nil {
		return nil
	}
	if n := len(c.Layers); n > maxLayers {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "containerConfig.layers has %d layers, and at most %d are taken", n, maxLayers)
	}
	if text := c.TextSize(); text > maxText {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "containerConfig has %d bytes of environment, entrypoint and command, and at most %d are taken: put large ones into a layer", text, maxText)
	}
	return nil
}

// Number is an integer. Some clients send it as a string.
type Number int64

func (n *Number) UnmarshalJSON(data []byte) error {
	v, err := containerconfig.ParseInteger(data)
	if err != nil {
		return &json.UnmarshalTypeError{Value: "value", Type: reflect.TypeFor[int64]()}
	}
	*n = Number(v)
	return nil
}

// SubmitResponse is the answer to a SubmitRequest.
type SubmitResponse struct {
	RequestID      string `json:"requestId"`
	ContainerToken string `json:"containerToken"`
	TargetImage    string `json:"targetImage"`    // what to pull
	Expiration     string `json:"expiration"`     // RFC 3339, UTC
	ContainerImage string `json:"containerImage"` // the base image, in full
	Freeze         bool   `json:"freeze"`
	Mirror         bool   `json:"mirror"`
	Succeeded      bool   `json:"succeeded"`
	SourceDigest   string `json:"sourceDigest"` // of the base image, pinned
	TargetDigest   string `json:"targetDigest"` // of the augmented image
}

// unsupported returns a refusal if only a build service could serve the request. It
// says what to use instead. The statuses are Wave's for a server without one.
func (r *SubmitRequest) unsupported() error {
	const image = "; give containerImage (container, wave -i) an image that has been built, or forward builds (api.builds.forward)"
	for _, f := range []struct {
		asked  bool
		reason string
	}{
		{r.ContainerFile != "", "a Dockerfile (containerFile; a module's Dockerfile, wave --containerfile): this server does not build images" + image},
		{r.CondaFile != "", "conda (condaFile): this server does not build images" + image},
		{len(r.Packages) > 0 && string(r.Packages) != "null", r.packageManager() + ": this server does not build images" + image},
		{r.Freeze, "freeze (wave.freeze, wave --freeze): this server does not push images; leave it out, because the image is pinned by digest anyway"},
		{r.Mirror, "mirror (wave.mirror, wave --mirror): this server does not copy images; leave it out"},
		{r.Format != "", fmt.Sprintf("format %.40q (wave --singularity): this server hands out OCI images only; leave it out, because Singularity takes them", r.Format)},
		{r.ScanMode == "required", "scanMode \"required\" (wave.scan.mode, wave --scan-mode): this server does not scan images; leave it out"},
	} {
		if f.asked {
			return front.Refuse(http.StatusNotImplemented, front.Unsupported, "%s", f.reason)
		}
	}
	return nil
}

// packageManager names what the packages are asked of, as people ask for it.
func (r *SubmitRequest) packageManager() string {
	var packages struct {
		Type string `json:"type"`
	}
	if json.Unmarshal(r.Packages, &packages) == nil && packages.Type == "CRAN" {
		return "cran (packages; wave --cran-package)"
	}
	return "conda (packages; a process's conda directive, wave --conda-package)"
}

// enumerated refuses a value that a member cannot have, with the values that it can.
func (r *SubmitRequest) enumerated() error {
	var compression struct {
		Mode string `json:"mode"`
	}
	_ = json.Unmarshal(r.BuildCompression, &compression) // it changes nothing here
	members := []struct {
		name, value string
		known       []string
	}{
		{"scanMode (wave.scan.mode, wave --scan-mode)", r.ScanMode, []string{"none", "async", "required"}},
		{"nameStrategy (wave --name-strategy)", r.NameStrategy, []string{"none", "tagPrefix", "imageSuffix"}},
		{"format", r.Format, []string{"sif"}},
		{"buildCompression.mode (wave.build.compression.mode, wave --build-compression)", compression.Mode, []string{"gzip", "estargz", "zstd"}},
	}
	for _, level := range r.ScanLevels {
		members = append(members, struct {
			name, value string
			known       []string
		}{"scanLevels (wave.scan.allowedLevels, wave --scan-level)", level, []string{"LOW", "MEDIUM", "HIGH", "CRITICAL"}})
	}
	for _, m := range members {
		if m.value != "" && !slices.Contains(m.known, m.value) {
			return front.Refuse(http.StatusBadRequest, front.Unsupported, "%s %.40q: want %s", m.name, m.value, strings.Join(m.known, ", "))
		}
	}
	return nil
}
