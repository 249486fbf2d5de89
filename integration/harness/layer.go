package harness

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"testing"
)

// MiB is 2^20 bytes.
const MiB = 1 << 20

// MustJSON marshals or fails the test.
func MustJSON(t *testing.T, v any) []byte {
	t.Helper()
	data, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// File is an entry of a layer made by a test.
type File struct {
	Name, Text, Link string
	Mode             int64
	Kind             byte // tar.TypeReg if zero
}

// Layer is a layer as clients send it. It is made here and not with the code
// under test.
type Layer struct {
	Location   string `json:"location,omitempty"`
	GzipDigest string `json:"gzipDigest,omitempty"`
	GzipSize   int    `json:"gzipSize,omitempty"`
	TarDigest  string `json:"tarDigest,omitempty"`

	Archive []byte `json:"-"`
}

// LayerOf packs files, in their order, into a layer in a data: URL.
func LayerOf(t *testing.T, files ...File) Layer {
	t.Helper()
	var plain, compressed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, f := range files {
		h := &tar.Header{Name: f.Name, Mode: f.Mode, Size: int64(len(f.Text)), Linkname: f.Link, Typeflag: f.Kind}
		if f.Kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.Text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	z := gzip.NewWriter(&compressed)
	if _, err := z.Write(plain.Bytes()); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return Layer{
		Location:   "data:" + base64.StdEncoding.EncodeToString(compressed.Bytes()),
		GzipDigest: Sum(compressed.Bytes()),
		GzipSize:   compressed.Len(),
		TarDigest:  Sum(plain.Bytes()),
		Archive:    compressed.Bytes(),
	}
}

// Sum returns the SHA-256 digest as image references have it.
func Sum(data []byte) string {
	s := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(s[:])
}

// Config is a containerConfig.
type Config struct {
	Entrypoint []string `json:"entrypoint,omitempty"`
	Cmd        []string `json:"cmd,omitempty"`
	Env        []string `json:"env,omitempty"`
	WorkingDir string   `json:"workingDir,omitempty"`
	Layers     []Layer  `json:"layers,omitempty"`
}

// Request is a submission.
type Request struct {
	ContainerImage    string  `json:"containerImage"`
	ContainerConfig   *Config `json:"containerConfig,omitempty"`
	ContainerPlatform string  `json:"containerPlatform,omitempty"`
}

// Greeter is the recipe of most tests: a script, a variable, a directory.
func Greeter(t *testing.T) *Config {
	t.Helper()
	return &Config{
		Entrypoint: []string{"/opt/greet/run"},
		Cmd:        []string{"from", "cmd"},
		Env:        []string{"GREETING=hello"},
		WorkingDir: "/opt/greet",
		Layers: []Layer{LayerOf(t,
			File{Name: "opt/", Kind: tar.TypeDir, Mode: 0o755},
			File{Name: "opt/greet/", Kind: tar.TypeDir, Mode: 0o755},
			File{Name: "opt/greet/run", Mode: 0o755, Text: "#!/bin/sh\necho \"$GREETING $(pwd) $*\"\n"},
		)},
	}
}

// Greeting is what the greeter prints when it runs without arguments.
const Greeting = "hello /opt/greet from cmd\n"
