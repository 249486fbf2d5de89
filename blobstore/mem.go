package blobstore

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/waveproxy/waveproxy/internal/pack"
)

// Mem is a Store in memory, with records. It has no bound: it grows with every
// Put. It is safe for concurrent use.
type Mem struct {
	mu      sync.RWMutex
	blobs   map[digest.Digest][]byte
	records map[string][]byte
}

var _ Packs = (*Mem)(nil)

// NewMem returns an empty Mem.
func NewMem() *Mem {
	return &Mem{blobs: map[digest.Digest][]byte{}, records: map[string][]byte{}}
}

// Open implements Store.
func (m *Mem) Open(ctx context.Context, d digest.Digest) (io.ReadSeekCloser, error) {
	if err := checkDigest(d); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("open blob %s: %w", d, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.blobs[d]
	if !ok {
		return nil, fmt.Errorf("open blob %s: %w", d, ErrNotFound)
	}
	return memBlob{bytes.NewReader(data)}, nil
}

// Put implements Store, but the blob lasts only as long as the process.
func (m *Mem) Put(ctx context.Context, d digest.Digest, r io.Reader) error {
	if err := checkDigest(d); err != nil {
		return err
	}
	var data bytes.Buffer
	if err := copyVerified(ctx, &data, r, d); err != nil {
		return fmt.Errorf("put blob %s: %w", d, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.blobs[d] = data.Bytes()
	return nil
}

// Verify implements Store.
func (m *Mem) Verify(ctx context.Context, d digest.Digest) error {
	_, err := m.Open(ctx, d) // Put has verified the bytes
	return err
}

// Record returns the named record, or an error that is ErrNotFound.
func (m *Mem) Record(ctx context.Context, name string) ([]byte, error) {
	if err := checkRecordName(name); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("read record %s: %w", name, err)
	}
	m.mu.RLock()
	defer m.mu.RUnlock()
	data, ok := m.records[name]
	if !ok {
		return nil, fmt.Errorf("read record %s: %w", name, ErrNotFound)
	}
	return slices.Clone(data), nil
}

// PutRecord stores data, at most 8 MiB, in place of any earlier record of that
// name.
func (m *Mem) PutRecord(ctx context.Context, name string, data []byte) error {
	if err := checkRecordName(name); err != nil {
		return err
	}
	err := ctx.Err()
	if err == nil {
		err = checkRecordSize(len(data))
	}
	if err != nil {
		return fmt.Errorf("write record %s: %w", name, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.records[name] = slices.Clone(data)
	return nil
}

// PutPack implements Packs. The blobs stay when the record is replaced.
func (m *Mem) PutPack(ctx context.Context, name string, record []byte, parts []pack.Part) error {
	for _, p := range parts {
		r, err := p.Open(ctx)
		if err != nil {
			return fmt.Errorf("write record %s: %w", name, err)
		}
		err = m.Put(ctx, p.Digest, r)
		r.Close()
		if err != nil {
			return fmt.Errorf("write record %s: %w", name, err)
		}
	}
	return m.PutRecord(ctx, name, record)
}

// In implements Packs.
func (m *Mem) In(string) Store { return m }

type memBlob struct{ *bytes.Reader }

func (memBlob) Close() error { return nil }
