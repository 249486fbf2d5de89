package main

import (
	"encoding/base64"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/waveproxy/waveproxy/config"
)

// TestKeysAreReadOnce: a rotation between two readings would give tokens and
// grants different keys.
func TestKeysAreReadOnce(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "key")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var readings atomic.Int32
	writer := make(chan struct{})
	go func() {
		defer close(writer)
		for {
			f, err := os.OpenFile(pipe, os.O_WRONLY, 0) // waits for a reader
			if err != nil || readings.Add(1) > 2 {
				return
			}
			// A reader that opens the file again must not get this pipe.
			os.Remove(pipe)
			syscall.Mkfifo(pipe, 0o600)
			f.WriteString(base64.StdEncoding.EncodeToString(make([]byte, 32)))
			f.Close()
		}
	}()
	t.Cleanup(func() {
		readings.Store(2)
		if f, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0); err == nil {
			<-writer
			f.Close()
		}
	})
	cfg := config.Defaults()
	cfg.Storage.Dir = filepath.Join(dir, "data")
	cfg.Tokens.Keys = []config.TokenKey{{File: pipe}}
	s, err := openStorage(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	if n := readings.Load(); n != 1 || s.tokens == nil || s.grants == nil {
		t.Errorf("the key was read %d times", n)
	}
}

// TestNamesOf: a claim may be none of the names that the administrator made, in
// tokens, admins and the files of both planes.
func TestNamesOf(t *testing.T) {
	dir := t.TempDir()
	cfg := config.Defaults()
	for name, path := range map[string]*string{"ann": &cfg.API.Htpasswd, "bob": &cfg.Registry.Htpasswd} {
		*path = filepath.Join(dir, name)
		if err := os.WriteFile(*path, []byte(name+":$2y$05$"+strings.Repeat("a", 53)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cfg.API.Tokens = map[string]config.BearerToken{"ci": {}}
	cfg.API.Admins = map[string]config.Secret{"ops": ""}
	taken, err := namesOf(cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"ann": true, "bob": true, "ci": true, "ops": true, "eve": false, "": false} {
		if taken(name) != want {
			t.Errorf("%q is taken: %v", name, !want)
		}
	}
}
