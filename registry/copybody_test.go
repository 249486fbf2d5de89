package registry

import (
	"bytes"
	"io"
	"testing"
	"time"
)

// TestBuffersComeBack: a stream gives its large buffer back, however it ends.
func TestBuffersComeBack(t *testing.T) {
	before := largeBuffers
	defer func() { largeBuffers = before }()
	only := newBufferPool(64<<10, 1)
	largeBuffers = []*bufferPool{only}
	for name, test := range map[string]struct {
		to   io.Writer
		from io.Reader
		want bool // an error
	}{
		"fast":           {io.Discard, io.LimitReader(zeros{}, 8<<20), false},
		"client leaves":  {&writerTo{left: 4 << 20}, io.LimitReader(zeros{}, 8<<20), true},
		"upstream fails": {io.Discard, io.MultiReader(io.LimitReader(zeros{}, 4<<20), &failing{}), true},
		"becomes slow":   {&writerTo{left: 8 << 20, slowAfter: 4 << 20}, io.LimitReader(zeros{}, 5<<20), false},
	} {
		t.Run(name, func(t *testing.T) {
			if err := copyBody(test.to, test.from); (err != nil) != test.want {
				t.Errorf("copyBody: %v", err)
			}
			if !only.left.TryAcquire(1) {
				t.Fatal("the buffer did not come back")
			}
			only.left.Release(1)
		})
	}
}

// TestCopyWithoutLargeBuffers: a stream goes on with its small buffer.
func TestCopyWithoutLargeBuffers(t *testing.T) {
	before := largeBuffers
	defer func() { largeBuffers = before }()
	largeBuffers = nil
	want := bytes.Repeat([]byte("0123456789abcdef"), 4<<20/16)
	var got bytes.Buffer
	if err := copyBody(&got, bytes.NewReader(want)); err != nil || !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%d bytes of %d came: %v", got.Len(), len(want), err)
	}
}

type failing struct{}

func (*failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// writerTo accepts left bytes, and waits once after slowAfter of them.
type writerTo struct{ left, slowAfter, taken int }

func (w *writerTo) Write(p []byte) (int, error) {
	if w.taken += len(p); w.taken > w.left {
		return 0, io.ErrClosedPipe
	}
	if w.slowAfter > 0 && w.taken > w.slowAfter && w.taken-len(p) <= w.slowAfter {
		time.Sleep(11 * fastTime)
	}
	return len(p), nil
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }
