package front

import (
	"context"

	"github.com/waveproxy/waveproxy/budget"
)

// requestContext is the context of a request. It answers for the record and for the
// budget itself, because two nested contexts would cost every request one more
// allocation. Its parent answers for everything else.
type requestContext struct {
	context.Context
	record Record
	budget *budget.Budget // nil if the server keeps no ledger
}

type recordKey struct{}

func (c *requestContext) Value(key any) any {
	switch key {
	case recordKey{}:
		return &c.record
	case budget.Key:
		return c.budget
	}
	return c.Context.Value(key)
}

// RecordOf returns the request's record. Outside Front it is a new one, which is not
// logged.
func RecordOf(ctx context.Context) *Record {
	if rec, ok := ctx.Value(recordKey{}).(*Record); ok {
		return rec
	}
	return new(Record)
}

// SetUser adds the user that sent the request to its log line, and charges what
// the request costs from now on to that user at the client's address. So users behind
// one address do not share its limits, nor do the addresses of one user, which may be
// the pull secret of a whole cluster; all addresses of a user are one group.
func SetUser(ctx context.Context, user string) {
	RecordOf(ctx).User = user
	name := "user " + user
	budget.From(ctx).SetClient(name+" at "+ClientOf(ctx), name)
}
