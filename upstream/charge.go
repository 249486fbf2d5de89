package upstream

import (
	"bytes"
	"context"
	"io"

	"github.com/waveproxy/waveproxy/augment"
	"github.com/waveproxy/waveproxy/budget"
)

// firstRead is how much room a document gets at first, in bytes. Nearly all are
// smaller.
const firstRead = 16 << 10

// readCharged reads at most maxObject bytes and one more. The request is charged for
// the room that they take while they arrive, which a registry may make last.
func readCharged(ctx context.Context, r io.Reader) ([]byte, error) {
	room := budget.From(ctx).Holding(budget.Memory)
	defer room.Release()
	data, err := readInto(room, r, firstRead, maxObject+1)
	if err != nil {
		return nil, err
	}
	return bytes.Clone(data), nil // what is kept has no spare room
}

// readInto reads at most limit bytes. room holds what they take, first bytes at
// first. After an error of r the bytes before it are returned as well; an error may be
// *budget.Exceeded.
func readInto(room *budget.Holding, r io.Reader, first, limit int) ([]byte, error) {
	var data []byte
	for {
		if len(data) == cap(data) {
			more := min(max(4*len(data), first), limit)
			if err := room.Grow(int64(more - len(data))); err != nil {
				return data, err
			}
			data = append(make([]byte, 0, more), data...)
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF || err == nil && len(data) == limit {
			return data, nil
		}
		if err != nil {
			return data, err
		}
	}
}

// chargeDescriptors charges the descriptors of a manifest or index: as many as there
// are digests in it. The document is not decoded for that, because its reader does.
func chargeDescriptors(ctx context.Context, o augment.Object) error {
	n := bytes.Count(o.Data, []byte("sha256:")) + bytes.Count(o.Data, []byte("sha512:"))
	return budget.From(ctx).Spend(budget.Descriptors, int64(n))
}
