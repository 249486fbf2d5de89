package durable

import (
	"errors"
	"fmt"
	"io"
	"syscall"
)

// Full is the error for a file that finds no room. Its text is for clients.
type Full struct {
	Free    int64 // bytes that were free
	Reserve int64 // bytes that must stay free
}

func (f *Full) Error() string {
	why := "the disk or a quota has no room"
	if f.Reserve > 0 {
		why = fmt.Sprintf("%d KiB are free, storage.reserve keeps %d KiB", f.Free>>10, f.Reserve>>10)
	}
	return "the storage of this server is full (" + why + "): nothing new is stored until its administrator has made room"
}

// fewFiles is how many more files a file system must be able to take.
const fewFiles = 1024

// space is what a file system has and has left, for programs without privileges.
type space struct{ free, size, freeFiles, files int64 }

// CheckSpace returns *Full if the file system of path has less free bytes than
// reserve returns for its size, or takes hardly any more files. A file system that
// does not count files, such as btrfs, has enough.
func CheckSpace(path string, reserve func(size int64) int64) error {
	s, err := statfs(path)
	if err != nil {
		return err
	}
	keep := reserve(s.size)
	if keep > 0 && s.free < keep || s.files > 0 && s.freeFiles < min(fewFiles, s.files/20) {
		return &Full{Free: s.free, Reserve: keep}
	}
	return nil
}

// AsFull returns err, as *Full if the file system or a quota refused a write for
// want of room.
func AsFull(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", &Full{}, err)
	}
	return err
}

// checkEvery is after how many bytes a RoomWriter looks again.
const checkEvery = 256 << 10

// RoomWriter writes until room returns an error. It looks while it writes, because
// the size of what comes is not known before.
type RoomWriter struct {
	w     io.Writer
	room  func() error
	since int // bytes since the last look
}

// NewRoomWriter returns a RoomWriter that looks before its first byte.
func NewRoomWriter(w io.Writer, room func() error) *RoomWriter {
	return &RoomWriter{w: w, room: room, since: checkEvery}
}

// Write implements io.Writer. Its errors are those of room and w.
func (r *RoomWriter) Write(p []byte) (int, error) {
	if r.since += len(p); r.since >= checkEvery {
		r.since = 0
		if err := r.room(); err != nil {
			return 0, err
		}
	}
	return r.w.Write(p)
}
