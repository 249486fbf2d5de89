package api

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/waveproxy/waveproxy/auth"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/containerconfig"
	"github.com/waveproxy/waveproxy/front"
)

// ContainerStatus is the progress of a request. This server answers a request
// when it is done, so the status never changes. Nextflow requires creationTime.
type ContainerStatus struct {
	ID           string `json:"id"`
	Status       string `json:"status"` // always DONE
	Succeeded    bool   `json:"succeeded"`
	CreationTime string `json:"creationTime"` // RFC 3339, UTC
	// Duration is how long ago that was, in seconds with a fraction, as for Wave.
	Duration json.Number `json:"duration"`
}

// ContainerRecord describes a request in the flat shape of
// /v1alpha2/container/{id}.
type ContainerRecord struct {
	ID              string                  `json:"id"`
	ContainerImage  string                  `json:"containerImage"`
	ContainerConfig *containerconfig.Config `json:"containerConfig,omitempty"`
	Platform        string                  `json:"platform,omitempty"` // comma-separated
	Timestamp       string                  `json:"timestamp"`          // the client's; without one, when it came
	Fingerprint     string                  `json:"fingerprint,omitempty"`
	Expiration      string                  `json:"expiration"` // RFC 3339, UTC
	SourceImage     string                  `json:"sourceImage"`
	SourceDigest    string                  `json:"sourceDigest"`
	WaveImage       string                  `json:"waveImage"`
	WaveDigest      string                  `json:"waveDigest"`
	Freeze          bool                    `json:"freeze"`
	Mirror          bool                    `json:"mirror"`
}

// TokenDescription describes a request in the shape of /container-token/{id}.
type TokenDescription struct {
	Token      string           `json:"token"`
	Expiration string           `json:"expiration"` // RFC 3339, UTC
	Request    DescribedRequest `json:"request"`
	Source     DescribedImage   `json:"source"` // the base image
	Wave       DescribedImage   `json:"wave"`   // the augmented image
}

// DescribedRequest is the request that made the token.
type DescribedRequest struct {
	ContainerImage  string                  `json:"containerImage"`
	ContainerConfig *containerconfig.Config `json:"containerConfig,omitempty"`
	Platform        string                  `json:"platform,omitempty"` // comma-separated
	Timestamp       string                  `json:"timestamp"`          // the client's; without one, when it came
	Fingerprint     string                  `json:"fingerprint,omitempty"`
}

// DescribedImage is an image and the digest it has.
type DescribedImage struct {
	Image  string `json:"image"`
	Digest string `json:"digest"`
}

func (s server) getStatus(t auth.Token, d auth.Description) any {
	return ContainerStatus{ID: string(t), Status: "DONE", Succeeded: true, CreationTime: formatTime(d.Created),
		Duration: json.Number(strconv.FormatFloat(max(0, time.Since(d.Created).Seconds()), 'f', 3, 64))}
}

func (s server) getRecord(t auth.Token, d auth.Description) any {
	image := sourceImage(d.Grant)
	return ContainerRecord{
		ID:              string(t),
		ContainerImage:  image,
		ContainerConfig: containerconfig.Of(d.Grant.Recipe),
		Platform:        strings.Join(d.Grant.Platforms, ","),
		Timestamp:       cmp.Or(d.Grant.Asked.Timestamp, formatTime(d.Created)),
		Fingerprint:     d.Grant.Asked.Fingerprint,
		Expiration:      formatTime(d.Expires),
		SourceImage:     image,
		SourceDigest:    d.Grant.Base.String(),
		WaveImage:       s.targetImage(t, d.Grant),
		WaveDigest:      d.Grant.Root.Digest.String(),
	}
}

func (s server) getToken(t auth.Token, d auth.Description) any {
	image := sourceImage(d.Grant)
	return TokenDescription{
		Token:      string(t),
		Expiration: formatTime(d.Expires),
		Request: DescribedRequest{
			ContainerImage:  image,
			ContainerConfig: containerconfig.Of(d.Grant.Recipe),
			Platform:        strings.Join(d.Grant.Platforms, ","),
			Timestamp:       cmp.Or(d.Grant.Asked.Timestamp, formatTime(d.Created)),
			Fingerprint:     d.Grant.Asked.Fingerprint,
		},
		Source: DescribedImage{image, d.Grant.Base.String()},
		Wave:   DescribedImage{s.targetImage(t, d.Grant), d.Grant.Root.Digest.String()},
	}
}

// sourceImage returns the name of the base image as the request had it.
func sourceImage(g *auth.Grant) string {
	if g.Tag != "" {
		return g.Image + ":" + g.Tag
	}
	return g.Image + "@" + g.Base.String()
}

// describedCost is how many bytes of memory a byte of a grant costs at most until its
// description is sent: itself, and as text in which many characters take six, as it
// is made.
const describedCost = 8

// withToken returns an endpoint that describes the token in the path. An id that
// cannot be a token may belong to a request that was forwarded, so the other server
// is asked.
func (s server) withToken(describe func(auth.Token, auth.Description) any) endpoint {
	return func(_ http.ResponseWriter, r *http.Request) (any, error) {
		token := auth.Token(r.PathValue("id"))
		if _, err := auth.Decode(token); err != nil {
			return s.forward(r, nil, asNotFound(err))
		}
		d, err := s.Tokens.Describe(r.Context(), token)
		if err != nil {
			return nil, asNotFound(err)
		}
		if err := budget.HoldFor(r.Context(), budget.Memory, describedCost*d.Grant.Cost()); err != nil {
			return nil, err
		}
		return describe(token, d), nil
	}
}

// deleteToken ends a token for every client that holds it. Equal requests of
// different callers get the same token, so only an admin may end one.
func (s server) deleteToken(w http.ResponseWriter, r *http.Request) (any, error) {
	if err := s.checkAdmin(w, r); err != nil {
		return nil, err
	}
	if err := s.Tokens.Revoke(r.Context(), auth.Token(r.PathValue("id"))); err != nil {
		return nil, asNotFound(err)
	}
	return nil, nil
}

// asNotFound turns an unknown, expired or revoked token into 404. A pull says more,
// because there the person at the engine must act.
func asNotFound(err error) error {
	for _, end := range []error{auth.ErrUnknownToken, auth.ErrExpiredToken, auth.ErrRevokedToken} {
		if errors.Is(err, end) {
			return front.Refuse(http.StatusNotFound, front.Unsupported, "no such container request: %v", end)
		}
	}
	return err
}
