package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"time"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/waveproxy/waveproxy/assemble"
	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
)

// InspectRequest names an image to look at.
type InspectRequest struct {
	ContainerImage   string `json:"containerImage"`
	TowerAccessToken string `json:"towerAccessToken,omitempty"` // stands for the caller
	TowerEndpoint    string `json:"towerEndpoint,omitempty"`    // changes nothing here
	TowerWorkspaceID Number `json:"towerWorkspaceId,omitempty"` // changes nothing here
}

func (r *InspectRequest) platformToken() string { return r.TowerAccessToken }

// InspectResponse has exactly one of its members.
type InspectResponse struct {
	Container *InspectedContainer `json:"container,omitempty"`
	Index     *InspectedIndex     `json:"index,omitempty"`
}

// InspectedContainer is the image for one platform.
type InspectedContainer struct {
	Registry  string            `json:"registry"` // as in image names
	HostName  string            `json:"hostName"` // base URL of its API: clients append /v2/…
	ImageName string            `json:"imageName"`
	Reference string            `json:"reference"` // tag or digest
	Digest    digest.Digest     `json:"digest"`    // of the manifest
	Config    InspectedConfig   `json:"config"`
	Manifest  InspectedManifest `json:"manifest"`
	V1        bool              `json:"v1"`  // schema 1, which is never answered
	V2        bool              `json:"v2"`  // schema 2, Docker's or OCI's
	OCI       bool              `json:"oci"` // OCI's
}

// InspectedConfig is an image config.
type InspectedConfig struct {
	Architecture string             `json:"architecture"`
	Config       InspectedExecution `json:"config"`
	Container    string             `json:"container,omitempty"`
	Created      string             `json:"created,omitempty"` // RFC 3339, UTC
	RootFS       InspectedRootFS    `json:"rootfs"`
}

// InspectedExecution is how a container starts. Image configs begin its names
// with upper-case letters, which encoding/json reads into these all the same.
type InspectedExecution struct {
	HostName     string            `json:"hostName"`
	DomainName   string            `json:"domainName"`
	User         string            `json:"user"`
	AttachStdin  bool              `json:"attachStdin"`
	AttachStdout bool              `json:"attachStdout"`
	AttachStderr bool              `json:"attachStderr"`
	TTY          bool              `json:"tty"`
	Env          []string          `json:"env"`
	Cmd          []string          `json:"cmd"`
	Image        string            `json:"image"`
	WorkingDir   string            `json:"workingDir"`
	Entrypoint   []string          `json:"entrypoint"`
	Labels       map[string]string `json:"labels"`
}

// InspectedRootFS lists the layers as they are uncompressed.
type InspectedRootFS struct {
	Type    string          `json:"type"`
	DiffIDs []digest.Digest `json:"diff_ids"`
}

// InspectedManifest is an image manifest.
type InspectedManifest struct {
	SchemaVersion int                   `json:"schemaVersion"`
	MediaType     string                `json:"mediaType"`
	ArtifactType  string                `json:"artifactType,omitempty"`
	Config        InspectedDescriptor   `json:"config"`
	Layers        []InspectedDescriptor `json:"layers"`
	Annotations   map[string]string     `json:"annotations"`
}

// InspectedDescriptor is a descriptor in a manifest.
type InspectedDescriptor struct {
	MediaType   string            `json:"mediaType"`
	Digest      digest.Digest     `json:"digest"`
	Size        int64             `json:"size"` // bytes
	Annotations map[string]string `json:"annotations,omitempty"`
}

// InspectedIndex is the image for several platforms.
type InspectedIndex struct {
	SchemaVersion int              `json:"schemaVersion"`
	MediaType     string           `json:"mediaType"`
	Digest        digest.Digest    `json:"digest"`
	Manifests     []InspectedEntry `json:"manifests"`
}

// InspectedEntry is a descriptor in an index.
type InspectedEntry struct {
	InspectedDescriptor
	Platform *InspectedPlatform `json:"platform,omitempty"`
}

// InspectedPlatform is the platform of an image.
type InspectedPlatform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
	Variant      string `json:"variant,omitempty"`
}

// postInspect answers with an image as its registry has it: an index when there
// are several images to choose from and the query names no platform.
func (s server) postInspect(w http.ResponseWriter, r *http.Request) (any, error) {
	var req InspectRequest
	in, err := s.receive(w, r, &req)
	if err != nil {
		return nil, err
	}
	defer in.release()
	ref, err := parseImage("containerImage", req.ContainerImage)
	if err != nil {
		return nil, err
	}
	wanted := r.URL.Query().Get("platform")
	platforms, err := augment.ParsePlatforms(wanted)
	if err != nil {
		return nil, err
	}
	if len(platforms) > 1 {
		return nil, front.Refuse(http.StatusBadRequest, front.Unsupported, "platform %.100q: one image can be inspected at a time", wanted)
	}
	img, err := s.resolve(r.Context(), "containerImage", ref, s.asks(w, r, in.caller, true))
	if err != nil {
		return nil, err
	}
	found, err := s.inspect(r.Context(), in.caller.Identity, img, platforms)
	if err != nil {
		return nil, err
	}
	if err := chargeAnswer(r.Context(), found); err != nil {
		return nil, err
	}
	if found.Manifest == nil {
		index, err := inspectedIndex(r.Context(), found.Root)
		return InspectResponse{Index: index}, err
	}
	container, err := inspectedContainer(r.Context(), ref, found)
	return InspectResponse{Container: container}, err
}

// inspect reads an image of an upstream as it is, and one of this server as a pull
// gives it.
func (s server) inspect(ctx context.Context, identity string, img image, platforms []ocispec.Platform) (found assemble.Inspection, err error) {
	switch {
	case !img.own:
		return s.Registries.Inspect(ctx, identity, img.ref, platforms)
	case img.grant != nil:
		found, err = s.Registries.InspectGrant(ctx, identity, img.grant, platforms)
	default:
		found, err = s.Registries.InspectNamed(ctx, identity, img.ref, img.recipe, platforms)
	}
	found.Host = s.URL
	return found, err
}

const (
	// maxInspected bounds each document of an answer, in bytes. The largest real ones
	// have a tenth.
	maxInspected = 1 << 20
	// inspectedCost is how many bytes of memory a byte of a document costs at most, as
	// values and as text in which many characters take six.
	inspectedCost = 16
)

// chargeAnswer refuses documents that are too large for an answer, and charges the
// request for the others until it has ended.
func chargeAnswer(ctx context.Context, found assemble.Inspection) error {
	total := 0
	for _, o := range []*augment.Object{&found.Root, found.Manifest, found.Config} {
		if o == nil {
			continue
		}
		if len(o.Data) > maxInspected {
			return front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported, "document %s of the image has %d bytes, at most %d can be inspected", o.Digest, len(o.Data), maxInspected)
		}
		total += len(o.Data)
	}
	return budget.HoldFor(ctx, budget.Memory, inspectedCost*int64(total))
}

func inspectedIndex(ctx context.Context, o augment.Object) (*InspectedIndex, error) {
	var index InspectedIndex
	if err := read(ctx, o, &index); err != nil {
		return nil, err
	}
	notNull(&index.Manifests)
	index.Digest = o.Digest
	if index.MediaType == "" { // as OCI allows
		index.MediaType = o.MediaType
	}
	return &index, nil
}

func inspectedContainer(ctx context.Context, ref reference.Named, found assemble.Inspection) (*InspectedContainer, error) {
	c := &InspectedContainer{
		Registry:  reference.Domain(ref),
		HostName:  hostName(reference.Domain(ref), found.Host),
		ImageName: reference.Path(ref),
		Reference: identifier(ref),
		Digest:    found.Manifest.Digest,
		V2:        true,
	}
	if err := read(ctx, *found.Config, &c.Config); err != nil {
		return nil, err
	}
	if err := read(ctx, *found.Manifest, &c.Manifest); err != nil {
		return nil, err
	}
	if c.Manifest.MediaType == "" { // as OCI allows
		c.Manifest.MediaType = found.Manifest.MediaType
	}
	c.OCI = c.Manifest.MediaType == ocispec.MediaTypeImageManifest
	run := &c.Config.Config
	notNull(&run.Env)
	notNull(&run.Cmd)
	notNull(&run.Entrypoint)
	notNull(&c.Config.RootFS.DiffIDs)
	notNull(&c.Manifest.Layers)
	for _, m := range []*map[string]string{&run.Labels, &c.Manifest.Annotations} {
		if *m == nil {
			*m = map[string]string{}
		}
	}
	// Clients fail on a time they cannot read.
	created, err := time.Parse(time.RFC3339Nano, c.Config.Created)
	c.Config.Created = ""
	if err == nil && created.Year() > 1 { // the zero time of Go stands for none
		c.Config.Created = created.UTC().Format(time.RFC3339Nano)
	}
	return c, nil
}

// hostName returns the registry's own address, as Wave shows it, where this server
// reads a mirror of it.
func hostName(domain, base string) string {
	if u, err := url.Parse(base); err == nil && u.Host == domain {
		return base
	}
	if domain == auth.DockerHub {
		domain = auth.DockerHubAPI
	}
	return "https://" + domain
}

// notNull makes a list that was missing or null an empty one.
func notNull[T any](list *[]T) {
	if *list == nil {
		*list = []T{}
	}
}

// identifier is the tag or digest that the reference asks for.
func identifier(ref reference.Named) string {
	if pinned, ok := ref.(reference.Digested); ok {
		return pinned.Digest().String()
	}
	return reference.TagNameOnly(ref).(reference.Tagged).Tag()
}

func read(ctx context.Context, o augment.Object, v any) error {
	err := o.Decode(ctx, v)
	if invalid, ok := errors.AsType[*augment.Error](err); ok {
		return front.Refuse(http.StatusBadRequest, front.Unsupported, "%v", invalid)
	}
	return err
}
