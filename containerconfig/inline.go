package containerconfig

import (
	"compress/zlib"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/waveproxy/waveproxy/budget"
	"github.com/waveproxy/waveproxy/front"
	"github.com/waveproxy/waveproxy/internal/unpack"
)

// Inline returns the archive in a "data:" or "gzip:" location, and how many bytes it
// took there. "gzip:" is zlib, as Wave and its clients have it, around an archive
// that is itself compressed. Nothing of it is kept in memory; what it unpacks to is
// charged to the context's budget as it is read. Errors of reading are for the client.
func Inline(ctx context.Context, location string) (r io.ReadCloser, packed int64, err error) {
	scheme, text, _ := strings.Cut(location, ":")
	// The decoder would take more after the padding.
	if strings.Contains(strings.TrimRight(text, "=\r\n"), "=") {
		return nil, 0, notBase64(base64.CorruptInputError(strings.Index(text, "=")))
	}
	packed = int64(len(text)) / 4 * 3
	data := base64Reader{base64.NewDecoder(base64.StdEncoding, strings.NewReader(text))}
	if scheme == "data" {
		return io.NopCloser(data), packed, nil
	}
	return &zlibReader{ctx: ctx, packed: packed, from: data, turn: unpack.New(ctx)}, packed, nil
}

func notBase64(err error) error {
	return front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not valid base64: %v", err)
}

// base64Reader has errors for the client.
type base64Reader struct{ r io.Reader }

func (b base64Reader) Read(p []byte) (int, error) {
	n, err := b.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = notBase64(err)
	}
	return n, err
}

// zlibReader unpacks. It takes its turn to unpack at its first Read, and gives it
// back at the end, at an error and in Close.
type zlibReader struct {
	ctx    context.Context
	packed int64
	from   io.Reader
	turn   *unpack.Turn
	r      io.Reader // nil until the first Read
}

func (z *zlibReader) Read(p []byte) (int, error) {
	if z.r == nil {
		if err := z.open(); err != nil {
			return 0, z.refused("a zlib stream", err)
		}
	}
	n, err := z.r.Read(p)
	if err != nil {
		z.turn.Leave()
	}
	return n, z.refused("a valid zlib stream", err)
}

func (z *zlibReader) open() error {
	if err := z.turn.Enter(); err != nil {
		return err
	}
	r, err := zlib.NewReader(z.from)
	if err != nil {
		z.turn.Leave()
		return err
	}
	z.r = z.turn.Reader(r, func() int64 { return z.packed })
	return nil
}

// refused returns an error for the client: that the stream is not what it should be,
// unless the fault is not the stream's.
func (z *zlibReader) refused(what string, err error) error {
	_, exceeded := errors.AsType[*budget.Exceeded](err)
	_, refusal := errors.AsType[*front.Refusal](err)
	if err == nil || errors.Is(err, io.EOF) || exceeded || refusal || z.ctx.Err() != nil {
		return err
	}
	return front.Refuse(http.StatusBadRequest, front.Unsupported, "layer location is not %s: %v", what, err)
}

// Close gives the turn back.
func (z *zlibReader) Close() error {
	z.turn.Leave()
	return nil
}

// inlineReader counts what comes out of all locations of a request. One bound for
// each layer would let a request of many layers have many times the bound.
type inlineReader struct {
	taker *Taker
	r     io.Reader
}

func (i inlineReader) Read(p []byte) (int, error) {
	n, err := i.r.Read(p)
	if i.taker.inline += int64(n); i.taker.inline > i.taker.MaxInline {
		return 0, front.Refuse(http.StatusRequestEntityTooLarge, front.Unsupported,
			"the layers in the request unpack to more than %d bytes together (api.max_body)", i.taker.MaxInline)
	}
	return n, err
}
