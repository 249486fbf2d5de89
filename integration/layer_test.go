package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"testing"
)

// file is an entry of a layer made by a test.
type file struct {
	name, text, link string
	mode             int64
	kind             byte // tar.TypeReg if zero
}

// testLayer is a layer as clients send it: made here, not with the code under
// test.
type testLayer struct {
	Location   string `json:"location,omitempty"`
	GzipDigest string `json:"gzipDigest,omitempty"`
	GzipSize   int    `json:"gzipSize,omitempty"`
	TarDigest  string `json:"tarDigest,omitempty"`

	archive []byte
}

func layerOf(t *testing.T, files ...file) testLayer {
	t.Helper()
	var plain, compressed bytes.Buffer
	w := tar.NewWriter(&plain)
	for _, f := range files {
		h := &tar.Header{Name: f.name, Mode: f.mode, Size: int64(len(f.text)), Linkname: f.link, Typeflag: f.kind}
		if f.kind == 0 {
			h.Typeflag = tar.TypeReg
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.text)); err != nil {
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
	return testLayer{
		Location:   "data:" + base64.StdEncoding.EncodeToString(compressed.Bytes()),
		GzipDigest: sum(compressed.Bytes()),
		GzipSize:   compressed.Len(),
		TarDigest:  sum(plain.Bytes()),
		archive:    compressed.Bytes(),
	}
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(s[:])
}

// config is a containerConfig.
type config struct {
	Entrypoint []string    `json:"entrypoint,omitempty"`
	Cmd        []string    `json:"cmd,omitempty"`
	Env        []string    `json:"env,omitempty"`
	WorkingDir string      `json:"workingDir,omitempty"`
	Layers     []testLayer `json:"layers,omitempty"`
}

// request is a submission.
type request struct {
	ContainerImage    string  `json:"containerImage"`
	ContainerConfig   *config `json:"containerConfig,omitempty"`
	ContainerPlatform string  `json:"containerPlatform,omitempty"`
}

// greeter is the recipe of most tests: a script, a variable, a directory.
func greeter(t *testing.T) *config {
	t.Helper()
	return &config{
		Entrypoint: []string{"/opt/greet/run"},
		Cmd:        []string{"from", "cmd"},
		Env:        []string{"GREETING=hello"},
		WorkingDir: "/opt/greet",
		Layers: []testLayer{layerOf(t,
			file{name: "opt/", kind: tar.TypeDir, mode: 0o755},
			file{name: "opt/greet/", kind: tar.TypeDir, mode: 0o755},
			file{name: "opt/greet/run", mode: 0o755, text: "#!/bin/sh\necho \"$GREETING $(pwd) $*\"\n"},
		)},
	}
}

const greeting = "hello /opt/greet from cmd\n"
