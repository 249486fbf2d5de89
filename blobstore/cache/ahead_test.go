package cache

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/waveproxy/waveproxy/blobstore/storetest"
)

// shaky reads and yields at random.
type shaky struct{ r io.Reader }

func (s shaky) Read(p []byte) (int, error) {
	for range rand.IntN(3) {
		runtime.Gosched()
	}
	return s.r.Read(p[:1+rand.IntN(len(p))])
}

func TestAheadPassesEverything(t *testing.T) {
	want := storetest.Bytes(6*largeRing+12345, "ahead") // the ring grows and wraps
	for range 5 {
		a := newAhead(nil)
		go a.readFrom(shaky{bytes.NewReader(want)})
		var got bytes.Buffer
		err := a.pass(func(p []byte) error {
			_, err := io.Copy(&got, shaky{bytes.NewReader(p)})
			return err
		})
		if err != nil || !bytes.Equal(got.Bytes(), want) {
			t.Fatalf("passed %d bytes, error %v; want %d", got.Len(), err, len(want))
		}
	}
}

func TestAheadStops(t *testing.T) {
	full := errors.New("full")
	a := newAhead(nil)
	done := make(chan bool)
	go func() {
		defer close(done)
		a.readFrom(bytes.NewReader(make([]byte, 10*largeRing)))
	}()
	if err := a.pass(func([]byte) error { return full }); err != full {
		t.Errorf("error %v, want that of the work", err)
	}
	<-done
}
