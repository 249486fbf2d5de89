package blobstore_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/blobstore"
	"github.com/waveproxy/waveproxy/blobstore/storetest"
	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/internal/durable"
)

// TestReserve: while the reserve is touched nothing is stored but urgent records,
// and what is stored is read. A blob is given up where it would touch the reserve.
func TestReserve(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	old := storetest.Bytes(1000, "old")
	if err := s.Put(t.Context(), digest.FromBytes(old), bytes.NewReader(old)); err != nil {
		t.Fatal(err)
	}
	reserve := int64(1) << 62
	s.Reserve = func(int64) int64 { return reserve }
	s.Urgent = func(name string) bool { return strings.HasPrefix(name, "revoked/") }
	wantFull := func(what string, err error) {
		t.Helper()
		if _, full := errors.AsType[*durable.Full](err); !full {
			t.Errorf("%s: %v, want *durable.Full", what, err)
		}
	}
	data := storetest.Bytes(1000, "new")
	wantFull("put", s.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data)))
	wantFull("record", s.PutRecord(t.Context(), "grants/a", data))
	wantFull("probe", s.Probe())
	if err := s.PutRecord(t.Context(), "revoked/a", data); err != nil {
		t.Errorf("an urgent record: %v", err)
	}
	if err := s.Put(t.Context(), digest.FromBytes(old), bytes.NewReader(old)); err != nil {
		t.Errorf("a blob that is there: %v", err)
	}
	wantBlob(t, s, old)
	looks := 0
	s.Reserve = func(int64) int64 {
		if looks++; looks > 3 {
			return reserve
		}
		return 0
	}
	large := storetest.Bytes(2<<20, "large")
	wantFull("a large blob", s.Put(t.Context(), digest.FromBytes(large), bytes.NewReader(large)))
	if temp := tempFiles(t, dir); len(temp) > 0 {
		t.Errorf("left: %q", temp)
	}
	s.Reserve = func(int64) int64 { return 0 }
	if err := s.Put(t.Context(), digest.FromBytes(large), bytes.NewReader(large)); err != nil {
		t.Errorf("with room again: %v", err)
	}
	if err := s.Probe(); err != nil {
		t.Errorf("with room again: %v", err)
	}
}

// TestProbe says what is wrong, without paths.
func TestProbe(t *testing.T) {
	dir := t.TempDir()
	s := openDir(t, dir)
	if err := s.Probe(); err != nil {
		t.Fatal(err)
	}
	if left := files(t, dir); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if err := os.Remove(s.Staging()); err != nil {
		t.Fatal(err)
	}
	if err := s.Probe(); err == nil || !strings.Contains(err.Error(), "cannot be written: no such file") || strings.Contains(err.Error(), dir) {
		t.Errorf("without its directory: %v", err)
	}
}

// smallDiskVar names the directory that a child process of TestDiskFull mounts.
const smallDiskVar = "BLOBSTORE_TEST_SMALL_DISK"

// TestDiskFull: a file system without room is *durable.Full too, without a reserve.
// It mounts one in a process with namespaces of its own, which takes no root.
func TestDiskFull(t *testing.T) {
	dir := os.Getenv(smallDiskVar)
	if dir == "" {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestDiskFull$", "-test.v")
		child.Env = append(os.Environ(), smallDiskVar+"="+t.TempDir())
		child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
		if os.Geteuid() != 0 {
			child.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
			child.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			child.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
		}
		if out, err := child.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("--- PASS: TestDiskFull")) {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	// Private, because systemd shares the mounts of the root with every namespace.
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	s := openDir(t, filepath.Join(dir, "store"))
	data := storetest.Bytes(2<<20, "large")
	err := s.Put(t.Context(), digest.FromBytes(data), bytes.NewReader(data))
	if _, full := errors.AsType[*durable.Full](err); !full || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("error %v, want *durable.Full", err)
	}
}

// TestFilesAreCharged: a file that is written costs one, unless it is urgent, and a
// blob that is stored already costs nothing.
func TestFilesAreCharged(t *testing.T) {
	s := openDir(t, t.TempDir())
	s.Urgent = func(name string) bool { return name == "revoked/a" }
	ledger := budget.NewLedger(budget.Limits{budget.Files: {Request: 2}})
	ctx := budget.With(t.Context(), ledger.Open("client"))
	data := storetest.Bytes(10, "charged")
	for range 5 {
		if err := s.Put(ctx, digest.FromBytes(data), bytes.NewReader(data)); err != nil {
			t.Fatal(err)
		}
		if err := s.PutRecord(ctx, "revoked/a", data); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.PutRecord(ctx, "a", data); err != nil {
		t.Fatal(err)
	}
	if e, ok := errors.AsType[*budget.Exceeded](s.PutRecord(ctx, "b", data)); !ok || e.Kind != budget.Files {
		t.Errorf("a third file: %v", e)
	}
	if _, err := s.Record(t.Context(), "b"); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("the refused record: %v", err)
	}
}
