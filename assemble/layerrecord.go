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
}

// encodeLayer returns the record of a layer.
func encodeLayer(layer augment.Layer) ([]byte, error) {
	data, err := json.Marshal(layer)
	if err != nil {
		return nil, fmt.Errorf("encode layer: %w", err)
	}
	return json.Marshal(layerRecordForm{layer, digest.FromBytes(data), true})
}

// decodeLayer returns the layer of a record, and whether it is known where redirects
// led. A damaged record is fs.ErrNotExist, because the layer can be fetched again.
func decodeLayer(record []byte) (layer augment.Layer, redirects bool, err error) {
	var r layerRecordForm
	if err := json.Unmarshal(record, &r); err != nil {
		return augment.Layer{}, false, fmt.Errorf("damaged (%w), so %w", err, fs.ErrNotExist)
	}
	data, err := json.Marshal(r.Layer)
	if err != nil {
		return augment.Layer{}, false, err
	}
	if r.Sum != "" && r.Sum != digest.FromBytes(data) || r.Digest.Validate() != nil || r.DiffID.Validate() != nil {
		return augment.Layer{}, false, fmt.Errorf("damaged, so %w", fs.ErrNotExist)
	}
	return r.Layer, r.Redirects, nil
}
