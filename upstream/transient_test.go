package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"testing"
)

func TestIsTransient(t *testing.T) {
	for _, test := range []struct {
		err  error
		want bool
	}{
		{&Error{Kind: RateLimited, Status: 429}, true},
		{&Error{Kind: Unresolvable}, true},
		{&Error{Kind: Unresolvable, Err: &net.DNSError{IsNotFound: true}}, true}, // a known tag outlives its name
		{&Error{Kind: Unreachable}, true},
		{&Error{Kind: Timeout}, true},
		{&Error{Kind: Untrusted}, true},
		{&Error{Kind: Invalid, Status: 200}, true},
		{&Error{Kind: Failed}, true}, // a login that went wrong
		{&Error{Kind: Failed, Status: 500}, true},
		{&Error{Kind: Failed, Status: 503}, true},
		{fmt.Errorf("ask: %w", &Error{Kind: Timeout}), true},
		{context.DeadlineExceeded, true},
		{&Error{Kind: Failed, Status: 405}, false},
		{&Error{Kind: NotFound, Status: 404}, false},
		{&Error{Kind: Unauthorized, Status: 401}, false},
		{&Error{Kind: Rejected, Status: 401}, false},
		{&Error{Kind: Forbidden}, false},
		{&Error{Kind: Forbidden, Err: context.DeadlineExceeded}, false},
		{context.Canceled, false},
		{errors.New("disk full"), false},
		{nil, false},
	} {
		if got := IsTransient(test.err); got != test.want {
			t.Errorf("IsTransient(%v) = %v", test.err, got)
		}
	}
}
