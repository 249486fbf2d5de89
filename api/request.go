package api

import (
	"encoding/json"
	"net/http"
	"strconv"
	"strings"

	"github.com/waveproxy/waveproxy/registry"
)

// SubmitRequest is what clients post to have an image augmented. Members that
// are null, empty and absent mean the same; members not listed are ignored.
type SubmitRequest struct {
	ContainerImage    string           `json:"containerImage"`
	ContainerConfig   *ContainerConfig `json:"containerConfig,omitempty"`
	ContainerPlatform string           `json:"containerPlatform,omitempty"` // comma-separated
	// TTL is how long the image can be pulled, as Go writes durations ("12h").
	// It is ours; Wave has no such member.
	TTL string `json:"ttl,omitempty"`

	// What follows asks for builds and copies, which this server does not make.
	ContainerFile     string          `json:"containerFile,omitempty"`
	ContainerIncludes []string        `json:"containerIncludes,omitempty"`
	CondaFile         string          `json:"condaFile,omitempty"`
	Packages          json.RawMessage `json:"packages,omitempty"`
	Freeze            bool            `json:"freeze,omitempty"`
	Mirror            bool            `json:"mirror,omitempty"`
	Format            string          `json:"format,omitempty"`
	ScanMode          string          `json:"scanMode,omitempty"`
}

// ContainerConfig is a recipe on the wire.
type ContainerConfig struct {
	Entrypoint []string         `json:"entrypoint,omitempty"`
	Cmd        []string         `json:"cmd,omitempty"`
	Env        []string         `json:"env,omitempty"`
	WorkingDir string           `json:"workingDir,omitempty"`
	Layers     []ContainerLayer `json:"layers,omitempty"`
}

// ContainerLayer is a layer on the wire. Location holds or names the archive:
// "data:" and base64, "gzip:" and base64 of its zlib compression, or an http
// or https URL. Digests and size are checked when given.
type ContainerLayer struct {
	Location   string `json:"location"`
	GzipDigest string `json:"gzipDigest,omitempty"`
	GzipSize   Size   `json:"gzipSize,omitempty"`
	TarDigest  string `json:"tarDigest,omitempty"`
}

// Size is a number of bytes. Some clients send it as a string.
type Size int64

func (s *Size) UnmarshalJSON(data []byte) error {
	text := strings.Trim(string(data), `"`)
	if text == "null" || text == "" {
		return nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return registry.Refuse(http.StatusBadRequest, "gzipSize %s: want a number of bytes", data)
	}
	*s = Size(n)
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

// unsupported refuses what only a build service can do, and says what to use
// instead. The statuses are Wave's for a server without one.
func (r *SubmitRequest) unsupported() error {
	const image = "; give containerImage an image that has been built"
	for _, f := range []struct {
		asked  bool
		reason string
	}{
		{r.ContainerFile != "", "containerFile: this server does not build images" + image},
		{r.CondaFile != "", "condaFile: this server does not build images" + image},
		{len(r.Packages) > 0 && string(r.Packages) != "null", "packages: this server does not build images" + image},
		{r.Freeze, "freeze: this server does not push images; leave it out, for the image is pinned by digest anyway"},
		{r.Mirror, "mirror: this server does not copy images; leave it out"},
		{r.Format != "", "format " + strconv.Quote(r.Format) + ": this server hands out OCI images only; leave it out"},
		{len(r.ContainerIncludes) > 0, "containerIncludes: not supported by this server; put the files into a layer"},
		{r.ScanMode == "required", "scanMode \"required\": this server does not scan images; leave it out"},
	} {
		if f.asked {
			return registry.Refuse(http.StatusNotImplemented, "%s", f.reason)
		}
	}
	return nil
}
