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
	b := budget.From(ctx)
	data := make([]byte, 0, firstRead)
	for held := 0; ; {
		if cap(data) > held {
			release, err := b.Hold(budget.Memory, int64(cap(data)-held))
			if err != nil {
				return nil, err
			}
			defer release()
			held = cap(data)
		}
		n, err := r.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		if err == io.EOF || err == nil && len(data) > maxObject {
			return bytes.Clone(data), nil // what is kept has no spare room
		}
		if err != nil {
			return nil, err
		}
		if len(data) == cap(data) {
			data = append(make([]byte, 0, min(4*len(data), maxObject+1)), data...)
		}
	}
}

// chargeDescriptors charges the descriptors of a manifest or index: as many as there
// are digests in it. The document is not decoded for that, because its reader does.
func chargeDescriptors(ctx context.Context, o augment.Object) error {
	n := bytes.Count(o.Data, []byte("sha256:")) + bytes.Count(o.Data, []byte("sha512:"))
	return budget.From(ctx).Spend(budget.Descriptors, int64(n))
}
