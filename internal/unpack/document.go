package unpack

import "context"

// smallDocument is the size, in bytes, up to which a document is decoded at once. That
// takes less than a millisecond, and nearly all real documents are smaller.
const smallDocument = 64 << 10

// InTurn runs work, which goes over the bytes of a document, in a turn of its own if
// they are many: decoding takes a processor as unpacking does. work must not wait for
// the network or for another turn. Errors are those of Turn.Enter and of work.
func InTurn(ctx context.Context, bytes int, work func() error) error {
	return inTurn(New(ctx), bytes, work)
}

func inTurn(t *Turn, bytes int, work func() error) error {
	if bytes <= smallDocument {
		return work()
	}
	if err := t.Enter(); err != nil {
		return err
	}
	defer t.Leave()
	return work()
}
