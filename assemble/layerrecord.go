package assemble

import (
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/augment"
)

// layerRecordForm is the form of a record of a layer. Sum is the digest of the
// layer's JSON. A record is not encrypted, and a wrong digit in a diff ID would give
// images that no engine can unpack.
type layerRecordForm struct {
	augment.Layer
	Sum digest.Digest `json:"sum,omitempty"` // empty in records of older versions
	// Redirects says that Layer.Via is known. Older versions did not look where
	// redirects led.
	Redirects bool `json:"redirects,omitempty"`
	// Roots is in records of older versions and in their sums. It says nothing that is
	// needed any more.
	Roots []string `json:"roots,omitempty"`
}

// sum returns the digest of the layer's JSON, as the version has it that wrote the record.
func (r layerRecordForm) sum() (digest.Digest, error) {
	var form any = r.Layer
	if len(r.Roots) > 0 {
		form = struct {
			Digest   digest.Digest `json:"digest"`
			Size     int64         `json:"size"`
			DiffID   digest.Digest `json:"diffID"`
			Platform string        `json:"platform,omitempty"`
			Roots    []string      `json:"roots,omitempty"`
			Location string        `json:"location,omitempty"`
			Via      []string      `json:"via,omitempty"`
		}{r.Digest, r.Size, r.DiffID, r.Platform, r.Roots, r.Location, r.Via}
	}
	data, err := json.Marshal(form)
	if err != nil {
		return "", fmt.Errorf("encode layer: %w", err)
	}
	return digest.FromBytes(data), nil
}

// encodeLayer returns the record of a layer.
func encodeLayer(layer augment.Layer) ([]byte, error) {
	r := layerRecordForm{Layer: layer, Redirects: true}
	var err error
	if r.Sum, err = r.sum(); err != nil {
		return nil, err
	}
	return json.Marshal(r)
}

// decodeLayer returns the layer of a record, and whether it is known where redirects
// led. A damaged record is fs.ErrNotExist, because the layer can be fetched again.
func decodeLayer(record []byte) (layer augment.Layer, redirects bool, err error) {
	var r layerRecordForm
	if err := json.Unmarshal(record, &r); err != nil {
		return augment.Layer{}, false, fmt.Errorf("damaged (%w), so %w", err, fs.ErrNotExist)
	}
	sum, err := r.sum()
	if err != nil {
		return augment.Layer{}, false, err
	}
	if r.Sum != "" && r.Sum != sum || r.Digest.Validate() != nil || r.DiffID.Validate() != nil {
		return augment.Layer{}, false, fmt.Errorf("damaged, so %w", fs.ErrNotExist)
	}
	return r.Layer, r.Redirects, nil
}
